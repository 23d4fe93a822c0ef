"""Two models for one stream: against both written out, and what does not belong together."""

from __future__ import annotations

import importlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, conditioning, pool_of
from tests.support.straight_line import Context, PastFrame, StraightLine
from tests.support.tiny_models import WAN, WAN_22_5B, WAN_LARGER, WAN_LOW

SIGMAS, SWITCH, SEED = (1.0, 0.9, 0.6, 0.3, 0.0), 0.875, 4
CHUNKS, STATES, F = 4, 1, 3


@pytest.fixture(scope="module")
def high(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(scope="module")
def low(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LOW)


def step(harness: NodeHarness, state: Any, chunks: int, **changes: Any) -> Any:
    import comfy.samplers

    inputs = {
        "model": harness.model,
        "state": state,
        "positive": conditioning(0),
        "cfg": 1.0,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor(SIGMAS),
        "seed": SEED,
        "chunks": chunks,
        "switch_sigma": SWITCH,
    }
    return harness.run("AdaStateStream", **{**inputs, **changes})[0]


class Memory:
    """What one expert remembers, layer by layer: slot 0 and the window."""

    def __init__(self, harness: NodeHarness) -> None:
        self.line = StraightLine(
            harness.model.get_model_object("diffusion_model"), conditioning(0)[0][0]
        )
        self.layers: list[tuple[list[PastFrame], list[PastFrame]]] = [([], []), ([], [])]

    def velocity(self, x: Tensor, sigma: float) -> Tensor:
        return self.line.velocity(x, sigma, [0, 4, 5, 6], self.context())[0]

    def commit(self, x: Tensor) -> None:
        _, written = self.line.velocity(x, 0.0, [0, 4, 5, 6], self.context())
        self.layers = [(new[:STATES], new[STATES:]) for new in written]

    def context(self) -> list[Context]:
        return [
            [(f, 0) for f in state] + [(f, 1 + i) for i, f in enumerate(window)]
            for state, window in self.layers
        ]


def written_out(high: NodeHarness, low: NodeHarness, core: Any) -> list[Tensor]:
    noise_of = importlib.import_module(f"{core.__name__}.rollout.noise").BlockNoise
    first, second = Memory(high), Memory(low)
    made = []
    with torch.inference_mode():
        for k in range(CHUNKS):
            noise = noise_of(SEED, k, (1, 16, STATES + F, 4, 6), STATES)
            x = noise.initial().video
            for sigma, following in pairwise(SIGMAS):
                expert = first if sigma >= SWITCH else second
                x = x - sigma * expert.velocity(x, sigma)
                if following:
                    x = (1 - following) * x + following * noise.renoise(x).video
            first.commit(x)
            second.commit(x)
            made.append(x)
    return made


def test_a_pair_equals_both_written_out(high: NodeHarness, low: NodeHarness, core: Any) -> None:
    state = step(high, high.fresh(), CHUNKS, model_low_noise=low.model)
    for chunk, wanted in zip(state.chunks, written_out(high, low, core), strict=True):
        made = torch.cat((chunk.state, chunk.content), dim=2)
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=0)
    of_pair = max(kv.nbytes for kv in pool_of(high.model).sets.values())
    pool_of(high.model).clear()
    alone = step(high, high.fresh(), CHUNKS)
    assert (alone.content() - state.content()).abs().max() > 1e-2
    # A set of the pair holds keys and values of both.
    assert of_pair == 2 * max(kv.nbytes for kv in pool_of(high.model).sets.values())
    assert not pool_of(low.model).sets


@pytest.mark.parametrize("switch", [0.0, 1.1])
def test_a_switch_beyond_the_schedule_leaves_it_to_one(
    high: NodeHarness, low: NodeHarness, switch: float
) -> None:
    for harness in (high, low):  # neither may live on what the other has left
        pool_of(harness.model).clear()
    state = step(high, high.fresh(), 2, model_low_noise=low.model, switch_sigma=switch)
    assert len(pool_of(high.model).sets) == 1
    alone = step(low if switch > 1.0 else high, high.fresh(), 2)
    assert len(pool_of(high.model).sets) + len(pool_of(low.model).sets) == 2
    assert torch.equal(state.content(), alone.content())


def test_a_pair_is_replayed_and_continued_under_guidance(
    high: NodeHarness, low: NodeHarness
) -> None:
    state = step(high, high.fresh(), 3, model_low_noise=low.model)
    warm = step(high, state, 1, model_low_noise=low.model)
    (cold_high,) = high.run("AdaStateApply", high.bare, "adaptive", 3, 3, 1, 3)
    (cold_low,) = low.run("AdaStateApply", low.bare, "adaptive", 3, 3, 1, 3)
    cold = step(high, state, 1, model=cold_high, model_low_noise=cold_low)
    assert torch.equal(warm.newest_content(), cold.newest_content())
    guided = {"cfg": 3.0, "negative": conditioning(9), "model_low_noise": low.model}
    after = step(high, state, 2, **guided)
    assert not torch.equal(after.content()[:, :, 9:12], warm.newest_content())
    assert not any(chunk.approximate for chunk in after.chunks)


def test_samplers_that_draw_on_their_own_draw_anew_after_the_switch(
    high: NodeHarness, low: NodeHarness
) -> None:
    import comfy.samplers

    draws = []

    def sample(model: Any, x: Tensor, sigmas: Tensor, **_: Any) -> Tensor:
        draws.append(torch.randn(4))
        return x

    own = comfy.samplers.KSAMPLER(sample)
    once, twice = (
        step(high, high.fresh(), 1, model_low_noise=low.model, sampler=own) for _ in range(2)
    )
    assert torch.equal(once.content(), twice.content())
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])


def test_the_report_tells_apart_which_model_of_a_pair_is_patched(
    high: NodeHarness, low: NodeHarness
) -> None:
    def patched(model: Any) -> Any:
        clone, name = model.clone(), "diffusion_model.blocks.0.ffn.0.weight"
        clone.add_patches({name: (torch.full((256, 128), 0.01),)})
        return clone

    def shown(first: Any, second: Any) -> str:
        state = step(high, high.fresh(), 1, model=first, model_low_noise=second)
        report = json.loads(high.run("AdaStateRead", state)[4])
        return str(report["events"][0]["weights"])

    codes = [
        shown(first, second)
        for first in (high.model, patched(high.model))
        for second in (low.model, patched(low.model))
    ]
    assert codes[0] == "unpatched"
    assert len(set(codes)) == 4


def test_a_stream_of_a_pair_is_not_continued_by_one_of_them(
    high: NodeHarness, low: NodeHarness
) -> None:
    state = step(high, high.fresh(), 1, model_low_noise=low.model)
    with pytest.raises(ValueError, match=r"^This stream was made with another model"):
        step(high, state, 1)


def test_what_does_not_belong_together_is_refused(
    high: NodeHarness, low: NodeHarness, node_classes: dict[str, Any]
) -> None:
    def pair(other: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            step(high, high.fresh(), 1, model_low_noise=other)

    pair(low.bare, "^model_low_noise is not from Apply AdaState")
    pair(high.model, "^model_low_noise is the same file as model")
    for name in (WAN_LARGER, WAN_22_5B):
        other = NodeHarness(node_classes, name).model
        pair(
            other,
            r"^model_low_noise is a wan2.1 of \d layers and width \d+, \d+ channels, and model",
        )
    (frozen,) = low.run("AdaStateApply", low.bare, "frozen", 3, 3, 1, 3)
    pair(frozen, "^The two models have different settings on Apply AdaState")
