"""The recurrence on ComfyUI's real Wan class, against the equations written out by hand.

The counterpart of `tests/unit/core/test_recurrence.py`, through the real nodes.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.studio import NodeStudio, conditioning, pool_of
from tests.support.tiny_models import WAN_LARGER

SIGMAS = (1.0, 0.6, 0.0)
HEAD, AXIS = 128, 44
# Indices of chunk k >= 1: slot 0, window, state, content.
BY_HAND = {
    "adaptive": ([0], [1, 2, 3], [0], [4, 5, 6]),
    "none": ([], [0, 1, 2], [], [3, 4, 5]),
}


@pytest.fixture(scope="module")
def studio(node_classes: dict[str, Any], tiny_models: Any) -> NodeStudio:
    return NodeStudio(node_classes, WAN_LARGER)


def turned(x: Tensor, deltas: list[int], heads: int) -> Tensor:
    """Turn (B, S, H * D) by frames, with complex numbers in double precision."""
    speeds = 10000.0 ** (-torch.arange(0, AXIS, 2, dtype=torch.float64) / AXIS)
    angles = torch.tensor(deltas, dtype=torch.float64)[:, None] * speeds
    spin = torch.polar(torch.ones_like(angles), angles)[None, :, None, None]
    split = x.double().reshape(1, len(deltas), -1, heads, HEAD)
    pairs = torch.view_as_complex(split[..., :AXIS].unflatten(-1, (-1, 2)).contiguous())
    time = torch.view_as_real(pairs * spin).flatten(-2)
    return torch.cat((time, split[..., AXIS:]), dim=-1).reshape(x.shape).to(x.dtype)


class StraightLine:
    """Forwards of the stock class; keys of the last clean block are turned anew where used."""

    def __init__(self, dit: Any, times: tuple[list[int], ...], text: Tensor) -> None:
        self.dit, self.text = dit, text
        anchor, window, state, content = times
        self.block_at, self.past_at = state + content, anchor + window
        self.past: list[tuple[Tensor, Tensor]] = []

    def velocity(self, x: Tensor, sigma: float, *, keep: bool = False) -> Tensor:
        native = list(range(x.shape[2]))
        to_block = [a - b for a, b in zip(self.block_at, native, strict=True)]
        to_past = [a - b for a, b in zip(self.past_at, native[-len(self.past_at) :], strict=True)]
        written: list[tuple[Tensor, Tensor]] = []

        def attention(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
            if q.shape != k.shape:
                return func(q, k, v, *args, **kwargs)
            heads = q.shape[-1] // HEAD
            layer = len(written)
            written.append((k, v))
            q, k = turned(q, to_block, heads), turned(k, to_block, heads)
            if self.past:
                old_k, old_v = self.past[layer]
                k = torch.cat((turned(old_k, to_past, heads), k), dim=1)
                v = torch.cat((old_v, v), dim=1)
            return func(q, k, v, *args, **kwargs)

        options = {"optimized_attention_override": attention}
        out = self.dit(x, torch.tensor([1000.0 * sigma]), self.text, transformer_options=options)
        if keep:
            self.past = written
        return out


@pytest.mark.parametrize("anchor", BY_HAND)
def test_stream_equals_the_recurrence_written_out(
    studio: NodeStudio, core: Any, anchor: str
) -> None:
    noise_of = importlib.import_module(f"{core.__name__}.noise").BlockNoise
    (model,) = studio.run("AdaStateApply", studio.bare, anchor, 3, 3, 1, 3)
    state, _ = studio.step(studio.fresh(), 4, model=model, seed=7, sigmas=SIGMAS)
    states = len(BY_HAND[anchor][2])
    dit = model.get_model_object("diffusion_model")
    line = StraightLine(dit, BY_HAND[anchor], conditioning(0)[0][0])
    for k, chunk in enumerate(state.chunks):
        noise = noise_of(7, k, (1, 16, states + 3, 4, 6), states)
        x = noise.initial()
        with torch.inference_mode():
            for sigma, following in pairwise(SIGMAS):
                x = x - sigma * line.velocity(x, sigma)
                if following:
                    x = (1 - following) * x + following * noise.renoise(x)
            line.velocity(x, 0.0, keep=True)
        torch.testing.assert_close(chunk.content, x[:, :, states:], atol=1e-5, rtol=0)
        if states:
            torch.testing.assert_close(chunk.state, x[:, :, :states], atol=1e-5, rtol=0)


def test_temporal_indices_are_the_same_at_every_chunk(studio: NodeStudio, pack: Any) -> None:
    import comfy.patcher_extension

    bridge = importlib.import_module(f"{pack.__name__}.nodes.bridge")
    seen = []

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        view = next(arg for arg in args if isinstance(arg, dict))[bridge.VIEW]
        if not view.commit:
            seen.append((*view.layout.context, *view.layout.block))
        return executor(*args, **kwargs)

    model = studio.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "spy", spy)
    studio.step(studio.fresh(), 6, model=model, sigmas=(1.0, 0.0))
    assert seen == [(0, 4, 5, 6)] + [(0, 1, 2, 3, 0, 4, 5, 6)] * 5


def test_cache_is_constant_from_chunk_one_on(studio: NodeStudio) -> None:
    pool = pool_of(studio.model)
    pool.clear()
    state, sizes = studio.fresh(), []
    for _ in range(6):
        state, _ = studio.step(state, sigmas=(1.0, 0.0))
        sizes.append(max((kv.nbytes for kv in pool.sets.values()), default=0))
    frames, tokens, width, layers = 1 + 3, 6, 256, 3
    assert sizes == [0] + [2 * frames * tokens * width * layers * 4] * 5


def test_zero_state_frames_is_the_policy_none(studio: NodeStudio) -> None:
    (stateless,) = studio.run("AdaStateApply", studio.bare, "adaptive", 3, 3, 0, 3)
    (none,) = studio.run("AdaStateApply", studio.bare, "none", 3, 3, 1, 3)
    a, _ = studio.step(studio.fresh(), 3, model=stateless)
    b, _ = studio.step(studio.fresh(), 3, model=none)
    assert torch.equal(a.content(), b.content())


def test_slot_zero_is_attended(studio: NodeStudio) -> None:
    one, _ = studio.step(studio.fresh(), 1)
    plain, _ = studio.step(one, seed=1)
    pool = pool_of(studio.model)
    newest = pool.sets[list(pool.sets)[-1]]
    with torch.no_grad():
        for value in newest.values_of.values():
            value[:, :6] = 0
    zeroed, _ = studio.step(one, seed=1)
    pool.clear()
    assert (plain.newest_content() - zeroed.newest_content()).abs().max() > 1e-4
