"""Published methods: every preset against the method written out, on ComfyUI's real Wan class.

What a chunk sees is written here from the methods' descriptions, frame by frame. The comparison has
to be this fine: a wrong variant of one of them, such as a sink that is not averaged, differs by a
few parts in ten thousand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning
from tests.support.straight_line import Context, PastFrame, StraightLine, turned_in_space
from tests.support.tiny_models import WAN_LARGER

SIGMAS = (1.0, 0.6, 0.0)
CHUNKS, F = 16, 3
HEADS, WIDTH = 2, 3  # of the tiny Wan; tokens of a row
Frames = list[PastFrame]
# What chunk k sees of the frames before it, and where its own first frame stands.
Method = Callable[[int, Frames], tuple[Context, int]]


def absolute(frames: Frames, first: int) -> Context:
    return [(frame, first + i) for i, frame in enumerate(frames)]


def self_forcing(k: int, past: Frames) -> tuple[Context, int]:
    first = max(0, F * k - 18)
    return absolute(past[first:], first), F * k


def longlive(k: int, past: Frames) -> tuple[Context, int]:
    first = max(3, F * k - 6)
    return absolute(past[:3], 0) + absolute(past[first:], first), F * k


def longlive_relative(k: int, past: Frames) -> tuple[Context, int]:
    seen = past[:3] + past[max(3, F * k - 6) :]
    return absolute(seen, 0), len(seen)


def infinity_rope(k: int, past: Frames) -> tuple[Context, int]:
    seen = past[:1] + past[max(1, F * k - 2) :]
    return absolute(seen, 0), len(seen)


def reward_forcing(k: int, past: Frames, rate: float = 0.999) -> tuple[Context, int]:
    sink = [PastFrame(f.key.double(), f.value.double()) for f in past[:3]]
    for start in range(3, F * (k - 1), F):  # frames that have left the window of three
        for i, gone in enumerate(past[start : start + F]):
            sink[i].key = rate * sink[i].key + (1 - rate) * gone.key.double()
            sink[i].value = rate * sink[i].value + (1 - rate) * gone.value.double()
    seen = sink + past[max(3, F * (k - 1)) :]
    return absolute(seen, 0), len(seen)


def memrope(k: int, past: Frames, long: float = 0.01, short: float = 0.1) -> tuple[Context, int]:
    if k <= 3:  # twelve plain frames, those of the chunk included
        return absolute(past, 0), F * k
    # The first to leave are 3 to 7, when chunk 4 begins; both averages start from 5 to 7.
    memories = [mean_of(past[5:8])] * 2
    for chunk in range(5, k + 1):
        mean = mean_of(past[F * chunk - 7 : F * chunk - 4])
        memories = [
            PastFrame(r * mean.key + (1 - r) * m.key, r * mean.value + (1 - r) * m.value)
            for m, r in zip(memories, (long, short), strict=True)
        ]
    placed = [PastFrame(turned_in_space(m.key, WIDTH, 1, HEADS), m.value) for m in memories]
    return absolute([*past[:3], *placed, *past[F * k - 4 :]], 0), 9


def mean_of(frames: Frames) -> PastFrame:
    """Average every token of some frames, without its place, and put it in every place."""
    keys = torch.cat([turned_in_space(f.key, WIDTH, -1, HEADS) for f in frames], dim=1)
    values = torch.cat([f.value.double() for f in frames], dim=1)
    like = frames[0].key
    return PastFrame(*(x.mean(dim=1, keepdim=True).expand_as(like) for x in (keys, values)))


def rolling_sink(k: int, past: Frames, backwards_first: bool = True) -> tuple[Context, int]:
    blocks = [list(range(start, start + F)) for start in range(0, 18, F)]
    back = [block[::-1] for block in blocks[::-1]]
    tour = back + blocks if backwards_first else blocks + back
    # Chunk 7 is the first to see less than everything; when it is committed, the entry of the
    # chunk before it becomes a block of the bank, and so on.
    stands = list(range(F * k))
    for chunk in range(6, k - 1):
        stands[F * chunk : F * chunk + F] = tour[(chunk - 6) % len(tour)]
    first = max(0, F * k - 18)
    return [(past[stands[i]], i) for i in range(first, F * k)], F * k


METHODS: dict[str, Method] = {
    "self_forcing": self_forcing,
    "longlive": longlive,
    "longlive_relative": longlive_relative,
    "infinity_rope": infinity_rope,
    "reward_forcing": reward_forcing,
    "memrope": memrope,
    "rolling_sink": rolling_sink,
}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


def written_out(harness: NodeHarness, core: Any, method: Method, chunks: int) -> list[torch.Tensor]:
    noise_of = importlib.import_module(f"{core.__name__}.rollout.noise").BlockNoise
    line = StraightLine(harness.model.get_model_object("diffusion_model"), conditioning(0)[0][0])
    layers: list[Frames] = [[], [], []]
    made = []
    with torch.inference_mode():
        for k in range(chunks):
            seen = [method(k, frames) for frames in layers]
            context, at = [c for c, _ in seen], seen[0][1]
            block_at = [at, at + 1, at + 2]
            noise = noise_of(7, k, (1, 16, F, 4, 6), 0)
            x = noise.initial().video
            for sigma, following in pairwise(SIGMAS):
                x = x - sigma * line.velocity(x, sigma, block_at, context)[0]
                if following:
                    x = (1 - following) * x + following * noise.renoise(x).video
            _, written = line.velocity(x, 0.0, block_at, context)
            for frames, new in zip(layers, written, strict=True):
                frames += new
            made.append(x)
    return made


@pytest.mark.newest
@pytest.mark.parametrize("name", METHODS)
def test_a_preset_equals_the_method_written_out(harness: NodeHarness, core: Any, name: str) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 1, 0, 0, 1, preset=name)
    state, _ = harness.step(harness.fresh(), CHUNKS, model=model, seed=7, sigmas=SIGMAS)
    expected = written_out(harness, core, METHODS[name], CHUNKS)
    for chunk, wanted in zip(state.chunks, expected, strict=True):
        torch.testing.assert_close(chunk.content, wanted, atol=1e-5, rtol=0)


@pytest.mark.newest
def test_the_comparison_tells_the_methods_apart(harness: NodeHarness, core: Any) -> None:
    """The negative control: the closest wrong variants are outside of the tolerance."""
    ema = written_out(harness, core, reward_forcing, CHUNKS)
    static = written_out(harness, core, lambda k, p: reward_forcing(k, p, 1.0), CHUNKS)
    assert (ema[-1] - static[-1]).abs().max() > 5e-5
    here, there = (written_out(harness, core, m, 8)[-1] for m in (longlive, longlive_relative))
    assert (here - there).abs().max() > 5e-5
    for method, wrong in (
        (memrope, lambda k, p: memrope(k, p, 0.1, 0.1)),
        (rolling_sink, lambda k, p: rolling_sink(k, p, backwards_first=False)),
    ):
        right, other = (written_out(harness, core, m, CHUNKS)[-1] for m in (method, wrong))
        assert (right - other).abs().max() > 5e-5


def test_every_preset_has_a_reference_and_a_test(core: Any) -> None:
    presets = importlib.import_module(f"{core.__name__}.anchors.presets").PRESETS
    # Others are in test_recurrence, test_sound_presets and test_omniforcing.
    elsewhere = {"adastate", "raven", "taomate", "omniforcing"}
    assert set(presets) == {*elsewhere, *METHODS}
    assert all(p.title and p.reference for p in presets.values())


def test_an_unknown_preset_is_refused(harness: NodeHarness) -> None:
    with pytest.raises(ValueError, match=r'^There is no preset "other"'):
        harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, preset="other")


def test_an_ema_rate_out_of_range_is_refused(harness: NodeHarness) -> None:
    with pytest.raises(ValueError, match=r"^ema_rate is 1\.5; it goes from 0 to 1"):
        harness.run("AdaStateApply", harness.bare, "ema", 3, 3, 1, 3, ema_rate=1.5)


@pytest.mark.newest
def test_presets_may_change_on_the_way(harness: NodeHarness) -> None:
    state = harness.fresh()
    for name in ("adastate", *METHODS, "adastate"):
        (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, preset=name)
        state, _ = harness.step(state, 2, model=model)
    assert state.chunk_index == 2 * (2 + len(METHODS))
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    warm, _ = harness.step(state, model=model)
    (cold,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    assert torch.equal(harness.step(state, model=cold)[0].content(), warm.content())
