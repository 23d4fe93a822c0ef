"""What slot 0 and the window stand for, after any edit of a stream, in the cache and as latents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adastate_core.attention.kv_cache import KVEntry
from adastate_core.config import StreamConfig
from adastate_core.rollout.replay_plan import ReplayPlan
from adastate_core.stream.events import Conditions, GivenLatentsEvent
from adastate_core.stream.state import StreamState
from tests.support.reference_host import Harness, text

CONFIGS = {
    "adaptive": StreamConfig(),
    "two states": StreamConfig(state_frames=2, window_frames=2),
    "frozen": StreamConfig(anchor="frozen", anchor_frames=2, window_frames=4),
    "none": StreamConfig(anchor="none", window_frames=1),
    "ema": StreamConfig(anchor="ema", anchor_frames=2, window_frames=2),
    "absolute": StreamConfig(anchor="frozen", anchor_frames=2, positions="absolute"),
    "dual ema": StreamConfig(anchor="dual_ema", anchor_frames=2, window_frames=2),
    "rolling": StreamConfig(anchor="rolling", anchor_frames=5, window_frames=2),
}
EDITS = {
    "step": lambda s, harness: harness.step(s),
    "anchor": lambda s, harness: s.reset("anchor"),
    "window": lambda s, harness: s.reset("window"),
    "all": lambda s, harness: s.reset("all"),
    "anchor + clip": lambda s, harness: s.reset("anchor", clip(1, 2)),
    "window + clip": lambda s, harness: s.reset("window", clip(2, 5)),
    "all + picture": lambda s, harness: s.reset("all", clip(3, 1)),
    "hold": lambda s, harness: s.hold_anchor(2),
    "flush": lambda s, harness: s.flush(1),
    "recache": lambda s, harness: s.recache(),
}


def clip(seed: int, frames: int) -> Tensor:
    return torch.randn((1, 4, frames, 2, 3), generator=torch.Generator().manual_seed(seed))


def frames_of(latents: Tensor | None) -> int:
    return 0 if latents is None else latents.shape[2]


def written_values(harness: Harness, latents: Tensor) -> Tensor:
    """Values of layer 0 of clean frames, straight from the model: they depend on nothing else."""
    tokens, time = harness.model.embed(latents, 0.0)
    return harness.model.split(harness.model.blocks[0].qkv(tokens, time)[2])


@pytest.mark.parametrize("name", CONFIGS)
@given(edits=st.lists(st.sampled_from(sorted(EDITS)), max_size=5), start=st.integers(0, 5))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_cache_holds_what_the_memory_says(name: str, edits: list[str], start: int) -> None:
    harness = Harness(CONFIGS[name])
    state = harness.fresh.start_with(clip(0, start)) if start else harness.fresh
    for edit in edits:
        state = EDITS[edit](state, harness)
    state = harness.step(state)
    harness.step(state)
    request = harness.request()
    newest = ReplayPlan(state, request.conditions, request.config, request.model).newest
    kv = harness.pool.find(newest.key)
    assert kv is not None
    context = state.context
    assert len(kv.cached.anchor) == frames_of(context.anchor)
    assert len(kv.cached.window) == frames_of(context.window)
    # The values of an average are no values of any picture.
    parts = (context.window,) if "ema" in name else (context.anchor, context.window)
    parts = [part for part in parts if part is not None]
    if parts:
        expected = written_values(harness, torch.cat(parts, dim=2))
        seen = kv.get(KVEntry(0))[1].data[:, -expected.shape[1] :]
        torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
    cold = Harness(harness.config)
    assert torch.equal(cold.step(state).content(), harness.step(state).content())


def test_an_edit_keeps_what_it_does_not_name() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2)
    before = state.context
    picture, tail = clip(1, 1), clip(2, 3)
    forgot = state.reset("anchor").reset("window", tail).context
    assert forgot.anchor is None
    assert torch.equal(forgot.window, tail)
    both = state.reset("window", tail).reset("anchor", picture).context
    assert torch.equal(both.window, tail)
    assert torch.equal(both.anchor, picture)
    cached = harness.step(state.hold_anchor(-1), 2).reset("window", tail).context
    assert torch.equal(cached.anchor, before.anchor)
    assert state.reset("all").recache().context == state.reset("all").context


def test_a_frozen_anchor_survives_a_new_window() -> None:
    harness = Harness(CONFIGS["frozen"])
    state = harness.step(harness.fresh, 2)
    after = harness.step(state.reset("window", clip(2, 5)))
    assert torch.equal(after.context.anchor, state.context.anchor)
    assert torch.equal(after.context.anchor, state.content()[:, :, :2])


def test_a_picture_for_slot_zero_alone_does_not_enter_the_window() -> None:
    harness = Harness()
    harness.step(harness.fresh.reset("anchor", clip(1, 1)))
    assert harness.host.times[-1] == (0, 0, 4, 5, 6)


def test_a_step_survives_a_host_that_frees_the_pool() -> None:
    """Opening a session may cost the pool its sets; no chunk may land under another prompt."""
    calm, pressed = Harness(), Harness()
    open_session = pressed.host.run

    def run(conditions: Conditions, body: object) -> None:
        pressed.pool.clear()
        open_session(conditions, body)

    pressed.host.run = run
    a, b = calm.fresh, pressed.fresh
    for prompt in (0, 1, 2):
        a, b = calm.step(a, 2, prompt=prompt), pressed.step(b, 2, prompt=prompt)
        assert torch.equal(a.content(), b.content())
    assert not any(chunk.approximate for chunk in b.chunks)


def test_a_bounded_stream_from_a_clip_stays_exact_under_a_new_prompt() -> None:
    harness = Harness()
    bounded = StreamState(harness.fresh.latent_shape, history_chunks=2).start_with(clip(0, 3))
    state = harness.step(bounded, 4)
    assert not harness.step(state, 1, prompt=1).last_chunk.approximate
    roots = [event for event in state.events if isinstance(event, GivenLatentsEvent)]
    assert [root.content for root in roots] == [None]  # out of reach, so its frames are let go


def test_a_given_negative_does_not_matter_without_guidance() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2)
    plain = ReplayPlan(state, Conditions(text(0)), harness.config, "")
    with_negative = Conditions(text(0), text(1))
    assert ReplayPlan(state, with_negative, harness.config, "")[-1].key == plain[-1].key
