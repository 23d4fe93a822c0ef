"""What slot 0 and the window stand for, after any edit of a stream, in the cache and as latents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.rollout.replay_plan import ReplayPlan
from adastate_core.stream.events import Conditions, GivenLatentsEvent
from adastate_core.stream.state import StreamState
from tests.support.reference_host import Studio, text

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
    "step": lambda s, studio: studio.step(s),
    "anchor": lambda s, studio: s.reset("anchor"),
    "window": lambda s, studio: s.reset("window"),
    "all": lambda s, studio: s.reset("all"),
    "anchor + clip": lambda s, studio: s.reset("anchor", clip(1, 2)),
    "window + clip": lambda s, studio: s.reset("window", clip(2, 5)),
    "all + picture": lambda s, studio: s.reset("all", clip(3, 1)),
    "hold": lambda s, studio: s.hold_anchor(2),
    "flush": lambda s, studio: s.flush(1),
    "recache": lambda s, studio: s.recache(),
}  # fmt: skip


def clip(seed: int, frames: int) -> Tensor:
    return torch.randn((1, 4, frames, 2, 3), generator=torch.Generator().manual_seed(seed))


def frames_of(latents: Tensor | None) -> int:
    return 0 if latents is None else latents.shape[2]


def written_values(studio: Studio, latents: Tensor) -> Tensor:
    """Values of layer 0 of clean frames, straight from the model: they depend on nothing else."""
    tokens, time = studio.model.embed(latents, 0.0)
    return studio.model.split(studio.model.blocks[0].qkv(tokens, time)[2])


@pytest.mark.parametrize("name", CONFIGS)
@given(edits=st.lists(st.sampled_from(sorted(EDITS)), max_size=5), start=st.integers(0, 5))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_cache_holds_what_the_memory_says(name: str, edits: list[str], start: int) -> None:
    studio = Studio(CONFIGS[name])
    state = studio.fresh.start_with(clip(0, start)) if start else studio.fresh
    for edit in edits:
        state = EDITS[edit](state, studio)
    state = studio.step(state)
    studio.step(state)
    request = studio.request()
    newest = ReplayPlan(state, request.conditions, request.config, request.model).newest
    kv = studio.pool.find(newest.key)
    assert kv is not None
    context = state.context
    assert len(kv.cached.anchor) == frames_of(context.anchor)
    assert len(kv.cached.window) == frames_of(context.window)
    # The values of an average are no values of any picture.
    parts = (context.window,) if "ema" in name else (context.anchor, context.window)
    parts = [part for part in parts if part is not None]
    if parts:
        expected = written_values(studio, torch.cat(parts, dim=2))
        seen = kv.get(0)[1].data[:, -expected.shape[1] :]
        torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)
    cold = Studio(studio.config)
    assert torch.equal(cold.step(state).content(), studio.step(state).content())


def test_an_edit_keeps_what_it_does_not_name() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2)
    before = state.context
    picture, tail = clip(1, 1), clip(2, 3)
    forgot = state.reset("anchor").reset("window", tail).context
    assert forgot.anchor is None
    assert torch.equal(forgot.window, tail)
    both = state.reset("window", tail).reset("anchor", picture).context
    assert torch.equal(both.window, tail)
    assert torch.equal(both.anchor, picture)
    cached = studio.step(state.hold_anchor(-1), 2).reset("window", tail).context
    assert torch.equal(cached.anchor, before.anchor)
    assert state.reset("all").recache().context == state.reset("all").context


def test_a_frozen_anchor_survives_a_new_window() -> None:
    studio = Studio(CONFIGS["frozen"])
    state = studio.step(studio.fresh, 2)
    after = studio.step(state.reset("window", clip(2, 5)))
    assert torch.equal(after.context.anchor, state.context.anchor)
    assert torch.equal(after.context.anchor, state.content()[:, :, :2])


def test_a_picture_for_slot_zero_alone_does_not_enter_the_window() -> None:
    studio = Studio()
    studio.step(studio.fresh.reset("anchor", clip(1, 1)))
    assert studio.host.times[-1] == (0, 0, 4, 5, 6)


def test_a_step_survives_a_host_that_frees_the_pool() -> None:
    """Opening a session may cost the pool its sets; no chunk may land under another prompt."""
    calm, pressed = Studio(), Studio()
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
    studio = Studio()
    bounded = StreamState(studio.fresh.latent_shape, history_chunks=2).start_with(clip(0, 3))
    state = studio.step(bounded, 4)
    assert not studio.step(state, 1, prompt=1).last_chunk.approximate
    roots = [event for event in state.events if isinstance(event, GivenLatentsEvent)]
    assert [root.content for root in roots] == [None]  # out of reach, so its frames are let go


def test_a_given_negative_does_not_matter_without_guidance() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2)
    plain = ReplayPlan(state, Conditions(text(0)), studio.config, "")
    with_negative = Conditions(text(0), text(1))
    assert ReplayPlan(state, with_negative, studio.config, "")[-1].key == plain[-1].key
