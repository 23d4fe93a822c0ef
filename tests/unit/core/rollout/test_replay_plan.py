"""The steps that rebuild a cache, and the keys that say when two caches are equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.rollout.replay_plan import CommitStep, EvictStep, ReplayPlan
from adastate_core.stream.events import ChunkEvent, Conditions
from adastate_core.stream.state import StreamState
from tests.support.reference_host import text

SHAPE = (1, 4, 2, 3)
CONFIG = StreamConfig(chunk_frames=2, window_frames=2)
FRESH = StreamState(SHAPE)


def clip(seed: int, frames: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn((1, 4, frames, *SHAPE[2:]), generator=source)


def after(
    state: StreamState,
    chunks: int = 1,
    *,
    prompt: int = 0,
    negative: int | None = None,
    take: int = 0,
    **changes: Any,
) -> StreamState:
    """Record chunks whose latents depend on their number and on `take`."""
    conditions = Conditions(text(prompt), None if negative is None else text(negative))
    for _ in range(chunks):
        index = state.chunk_index
        event = ChunkEvent(
            index,
            0,
            conditions.positive.digest,
            conditions.negative.digest if conditions.negative else None,
            "",
            CONFIG,
            latents=f"{index} {take}",
            frame=state.next_frame,
            state=clip(100 * take + index, 1),
            content=clip(100 * take + index, 2),
        )
        state = state.append_chunk(replace(event, **changes), conditions)
    return state


def plan(
    state: StreamState,
    prompt: int = 0,
    *,
    negative: int | None = None,
    guided: bool = False,
    config: StreamConfig = CONFIG,
    model: str = "model",
) -> ReplayPlan:
    given = None if negative is None else text(negative)
    return ReplayPlan(state, Conditions(text(prompt), given, guided), config, model)


def keys(found: ReplayPlan, conditioning: int = 0) -> list[str]:
    return [step.keys[conditioning] for step in found]


def test_a_fresh_stream_needs_no_step() -> None:
    assert list(plan(FRESH)) == []
    assert plan(FRESH).newest is None
    assert len(plan(FRESH)) == 0


def test_every_chunk_is_a_commit_of_what_was_recorded() -> None:
    state = after(after(FRESH), prompt=1, weights="lora", held=True)
    first, second = plan(state, prompt=2)
    assert isinstance(first, CommitStep)
    assert isinstance(second, CommitStep)
    assert (first.frame, second.frame) == (0, 2)
    assert (first.weights, second.weights) == ("", "lora")
    assert (first.hold, second.hold) == (False, True)
    assert first.possible
    for step, event in zip((first, second), state.chunks, strict=True):
        assert step.state is event.state
        assert step.content is event.content
        assert step.config is CONFIG
    prompts = [step.conditions.positive.digest for step in (first, second) if step.conditions]
    assert prompts == [text(0).digest, text(1).digest]


def test_a_plan_is_a_sequence_from_either_end() -> None:
    found = plan(after(FRESH, 4))
    forward = keys(found)
    assert len(found) == len(set(forward)) == 4
    assert [step.key for step in reversed(found)] == forward[::-1]
    assert found.newest is not None
    assert found.newest.key == forward[-1] == found[-1].key == found[3].key
    assert [step.key for step in found[1:3]] == forward[1:3]


def test_branches_share_the_keys_of_their_past() -> None:
    trunk = after(FRESH, 2)
    left, right = keys(plan(after(trunk, take=1))), keys(plan(after(trunk, take=2)))
    assert left[:2] == right[:2] == keys(plan(trunk))
    assert left[2] != right[2]


def test_what_comes_next_changes_no_key_of_a_chunk() -> None:
    state = after(FRESH, 2)
    other = plan(state, prompt=5, config=replace(CONFIG, window_frames=7))
    assert keys(other) == keys(plan(state))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": 1},
        {"take": 1},
        {"config": replace(CONFIG, anchor_strength=0.5)},
        {"held": True},
        {"weights": "lora"},
        {"frame": 8},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_a_cache_depends_on_changes_all_later_keys(changes: dict[str, Any]) -> None:
    usual, other = after(FRESH), after(after(FRESH), **changes)
    found, expected = keys(plan(after(other))), keys(plan(after(after(usual))))
    assert found[0] == expected[0]
    assert found[1] != expected[1]
    assert found[2] != expected[2]


def test_seeds_and_notes_are_in_no_key() -> None:
    expected = keys(plan(after(FRESH, 3)))
    assert keys(plan(after(FRESH, 3, seed=9))) == expected
    assert keys(plan(after(after(FRESH, 2).hold_anchor(0), 1))) == expected


def test_models_share_no_key() -> None:
    state = after(FRESH, 2)
    assert not {*keys(plan(state))} & {*keys(plan(state, model="other"))}


def test_guidance_has_keys_of_its_own() -> None:
    state = after(FRESH, 2, negative=8)
    guided = plan(state, negative=9, guided=True)
    assert [len(step.keys) for step in guided] == [2, 2]
    assert keys(guided) == keys(plan(state))
    assert not {*keys(guided, 0)} & {*keys(guided, 1)}
    # The recorded negative counts, whatever the next one is; the positive does not matter here.
    assert keys(plan(state, negative=7, guided=True), 1) == keys(guided, 1)
    assert keys(plan(after(FRESH, 2, prompt=3, negative=8), negative=9, guided=True), 1) == keys(
        guided, 1
    )


def test_a_missing_negative_is_filled_from_the_next_chunk() -> None:
    state = after(after(FRESH, negative=8), 1)
    nine, seven = (plan(state, negative=n, guided=True) for n in (9, 7))
    assert keys(nine, 1)[0] == keys(seven, 1)[0]
    assert keys(nine, 1)[1] != keys(seven, 1)[1]
    negatives = [step.conditions.negative for step in nine if isinstance(step, CommitStep)]
    assert [n.digest for n in negatives if n] == [text(8).digest, text(9).digest]


def test_a_negative_that_is_not_computed_makes_no_key() -> None:
    state = after(FRESH, 2)
    assert [step.keys for step in plan(state, negative=9)] == [step.keys for step in plan(state)]


def evictions(state: StreamState) -> list[tuple[bool, bool]]:
    """Return whether slot 0 and the window are emptied, of every step that drops frames."""
    steps = [step for step in plan(state) if isinstance(step, EvictStep)]
    return [(step.anchor, step.window_kept == 0) for step in steps]


def test_resets_drop_frames() -> None:
    state = after(FRESH, 2)
    assert evictions(state.reset("anchor")) == [(True, False)]
    assert evictions(state.reset("window")) == [(False, True)]
    assert len(plan(state.reset("anchor").reset("window"))) == 4


def test_an_anchor_reset_keeps_any_window() -> None:
    (step,) = [s for s in plan(after(FRESH).reset("anchor")) if isinstance(s, EvictStep)]
    assert step.window_kept > 10**6


def test_a_flush_keeps_slot_0_and_some_frames() -> None:
    newest = plan(after(FRESH, 2).flush(1)).newest
    assert newest == EvictStep(newest.keys, False, 1)
    assert plan(after(FRESH, 2).flush(2)).newest != newest


def test_nothing_before_a_full_reset_is_planned() -> None:
    state = after(after(FRESH, 5).reset("all"), 1, frame=0)
    first, second = plan(state)
    assert isinstance(first, EvictStep)
    assert (first.anchor, first.window_kept) == (True, 0)
    assert isinstance(second, CommitStep)
    # What was before does not matter to the keys either.
    assert keys(plan(after(after(FRESH, 2, take=3).reset("all"), 1, frame=0, latents="5 0"))) == [
        first.key,
        second.key,
    ]


def test_given_latents_wait_for_the_chunk_after_them() -> None:
    state = FRESH.start_with(clip(1, 3))
    found = plan(state, prompt=3)
    assert [step.frame for step in found if isinstance(step, CommitStep)] == [1]
    assert keys(plan(state, prompt=4)) != keys(found)
    assert keys(plan(state, prompt=3, config=replace(CONFIG, window_frames=4))) != keys(found)
    # With the chunk they are settled: under its conditioning and its options.
    settled = after(state, prompt=3)
    assert keys(plan(settled, prompt=4))[0] == keys(found)[-1]
    assert keys(plan(settled, prompt=4)) == keys(plan(settled, prompt=3))
    given = plan(settled, prompt=4)[0]
    assert isinstance(given, CommitStep)
    assert given.conditions is not None
    assert given.conditions.positive.digest == text(3).digest
    assert given.weights is None


def test_a_clip_is_committed_in_blocks_of_which_the_last_has_the_key() -> None:
    frozen = StreamConfig(anchor="frozen", chunk_frames=2, window_frames=3, anchor_frames=1)
    steps = plan(FRESH.start_with(clip(1, 7)), config=frozen)
    blocks = [step.content.shape[2] for step in steps if isinstance(step, CommitStep)]
    frames = [step.frame for step in steps if isinstance(step, CommitStep)]
    assert (blocks, frames) == ([2, 2], [3, 5])
    assert len({*keys(steps)}) == 2
    shorter = plan(FRESH.start_with(clip(1, 7)), config=replace(frozen, window_frames=1))
    assert len(shorter) == 1
    assert torch.equal(shorter[0].content, clip(1, 7)[:, :, 5:])


def test_an_image_for_slot_0_alone_leaves_no_frame_in_the_window() -> None:
    commit, evict = plan(FRESH.reset("anchor", clip(1, 1)))
    assert isinstance(commit, CommitStep)
    assert torch.equal(commit.state, clip(1, 1))
    assert evict == EvictStep(evict.keys, False, 0)
    assert commit.key != evict.key


def test_a_forgotten_chunk_cannot_be_committed() -> None:
    state = StreamState(SHAPE, history_chunks=1)
    kept, bounded = after(FRESH, 6), after(state, 6)
    forgotten = [not step.possible for step in plan(bounded) if isinstance(step, CommitStep)]
    assert forgotten[0]
    assert not forgotten[-1]
    # It has the key that it had: a cache that is still there serves.
    assert keys(plan(bounded)) == keys(plan(kept))
    first = plan(bounded)[0]
    assert isinstance(first, CommitStep)
    assert first.conditions is None


def test_the_newest_step_is_found_without_the_others() -> None:
    """A stream that goes on needs one step, however long it is."""
    state = after(FRESH, 300)
    found = iter(reversed(plan(state)))
    looked: list[int] = []
    recorded = state.conditionings

    class Watched(dict[str, Any]):
        def __getitem__(self, digest: str) -> Any:
            looked.append(1)
            return super().__getitem__(digest)

    object.__setattr__(state, "conditionings", Watched(recorded))
    assert next(found).key == keys(plan(after(FRESH, 300)))[-1]
    assert len(looked) == 1
