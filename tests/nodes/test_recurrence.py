"""The recurrence on ComfyUI's real Wan class, against the equations written out by hand.

The counterpart of `tests/unit/core/test_recurrence.py`, through the real nodes.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning, pool_of
from tests.support.straight_line import Context, StraightLine
from tests.support.tiny_models import WAN_LARGER

SIGMAS = (1.0, 0.6, 0.0)
# Indices of chunk k >= 1: slot 0, window, state, content.
BY_HAND = {
    "adaptive": ([0], [1, 2, 3], [0], [4, 5, 6]),
    "none": ([], [0, 1, 2], [], [3, 4, 5]),
}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


@pytest.mark.parametrize("anchor", BY_HAND)
def test_stream_equals_the_recurrence_written_out(
    harness: NodeHarness, core: Any, anchor: str
) -> None:
    noise_of = importlib.import_module(f"{core.__name__}.rollout.noise").BlockNoise
    (model,) = harness.run("AdaStateApply", harness.bare, anchor, 3, 3, 1, 3)
    state, _ = harness.step(harness.fresh(), 16, model=model, seed=7, sigmas=SIGMAS)
    states = len(BY_HAND[anchor][2])
    dit = model.get_model_object("diffusion_model")
    line = StraightLine(dit, conditioning(0)[0][0])
    anchor_at, window_at, state_at, content_at = BY_HAND[anchor]
    block_at, past_at = state_at + content_at, anchor_at + window_at
    past: list[Context] = []
    for k, chunk in enumerate(state.chunks):
        noise = noise_of(7, k, (1, 16, states + 3, 4, 6), states)
        x = noise.initial().video
        with torch.inference_mode():
            for sigma, following in pairwise(SIGMAS):
                x = x - sigma * line.velocity(x, sigma, block_at, past)[0]
                if following:
                    x = (1 - following) * x + following * noise.renoise(x).video
            _, written = line.velocity(x, 0.0, block_at, past)
            # W_p = F, so the whole last block is exactly slot 0 and the window.
            past = [list(zip(frames, past_at, strict=True)) for frames in written]
        torch.testing.assert_close(chunk.content, x[:, :, states:], atol=1e-5, rtol=0)
        if states:
            torch.testing.assert_close(chunk.state, x[:, :, :states], atol=1e-5, rtol=0)


def test_temporal_indices_are_the_same_at_every_chunk(harness: NodeHarness, pack: Any) -> None:
    import comfy.patcher_extension

    keys = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.keys")
    seen = []

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        view = next(arg for arg in args if isinstance(arg, dict))[keys.VIEW]
        if not hasattr(view, "committed"):
            seen.append((*view.layout.context, *view.layout.block))
        return executor(*args, **kwargs)

    model = harness.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "spy", spy)
    harness.step(harness.fresh(), 6, model=model, sigmas=(1.0, 0.0))
    assert seen == [(0, 4, 5, 6)] + [(0, 1, 2, 3, 0, 4, 5, 6)] * 5


def test_cache_is_constant_from_chunk_one_on(harness: NodeHarness) -> None:
    pool = pool_of(harness.model)
    pool.clear()
    state, sizes = harness.fresh(), []
    for _ in range(6):
        state, _ = harness.step(state, sigmas=(1.0, 0.0))
        sizes.append(max((kv.nbytes for kv in pool.sets.values()), default=0))
    frames, tokens, width, layers = 1 + 3, 6, 256, 3
    assert sizes == [0] + [2 * frames * tokens * width * layers * 4] * 5


def test_zero_state_frames_is_the_policy_none(harness: NodeHarness) -> None:
    (stateless,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 0, 3)
    (none,) = harness.run("AdaStateApply", harness.bare, "none", 3, 3, 1, 3)
    a, _ = harness.step(harness.fresh(), 3, model=stateless)
    b, _ = harness.step(harness.fresh(), 3, model=none)
    assert torch.equal(a.content(), b.content())


def test_slot_zero_is_attended(harness: NodeHarness) -> None:
    one, _ = harness.step(harness.fresh(), 1)
    plain, _ = harness.step(one, seed=1)
    pool = pool_of(harness.model)
    newest = pool.sets[list(pool.sets)[-1]]
    with torch.no_grad():
        for value in newest.values_of.parameters():
            value[:, :6] = 0
    zeroed, _ = harness.step(one, seed=1)
    pool.clear()
    assert (plain.newest_content() - zeroed.newest_content()).abs().max() > 1e-4
