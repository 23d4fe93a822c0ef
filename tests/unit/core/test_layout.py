"""Slots and indices as exact integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adastate_core.anchors import policy_for
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, FrameRef, SlotLayout, newest, place, refs

FULL = CachedFrames(anchor=(0,), window=(4, 5, 6))


def layout(cached: CachedFrames = FULL, **options: object) -> SlotLayout:
    config = StreamConfig(**options)
    return policy_for(config).layout(config, cached)


def test_the_published_layout() -> None:
    assert layout() == SlotLayout((0,), (1, 2, 3), (0,), (4, 5, 6))


def test_chunk_zero_has_the_same_indices_and_absent_slots() -> None:
    assert layout(CachedFrames()) == SlotLayout((), (), (0,), (4, 5, 6))


def test_split_state() -> None:
    assert layout(state_rope="split01") == SlotLayout((0,), (2, 3, 4), (1,), (5, 6, 7))


def test_growing_positions() -> None:
    assert layout(CachedFrames(), warmup_positions="grow") == SlotLayout((), (), (0,), (1, 2, 3))
    assert layout(warmup_positions="grow") == layout()


def test_a_short_window_is_right_aligned() -> None:
    cached = CachedFrames(anchor=(0,), window=(6,))
    assert layout(cached).window == (3,)


def test_a_smaller_window_reads_the_newest_frames() -> None:
    assert layout(window_frames=1) == SlotLayout((0,), (1,), (0,), (2, 3, 4))


def test_no_anchor() -> None:
    assert layout(anchor="none") == SlotLayout((), (0, 1, 2), (), (3, 4, 5))
    assert layout(state_frames=0) == layout(anchor="none")


def test_frozen() -> None:
    cached = CachedFrames(anchor=(0, 1, 2), window=(6, 7, 8))
    assert layout(cached, anchor="frozen") == SlotLayout((0, 1, 2), (3, 4, 5), (), (6, 7, 8))


@pytest.mark.parametrize("anchor_frames", [1, 2, 3, 4, 7])
def test_frozen_fills_once_and_never_twice(anchor_frames: int) -> None:
    config = StreamConfig(anchor="frozen", anchor_frames=anchor_frames)
    policy = policy_for(config)
    frames: dict[str, list[int]] = {"anchor": [], "window": []}
    for chunk in range(6):
        cached = CachedFrames(tuple(frames["anchor"]), tuple(frames["window"]))
        plan = policy.commit(config, cached, hold=False)
        rows = {**frames, "content": list(range(3 * chunk, 3 * chunk + 3))}
        frames = {
            name: [rows[ref.source][ref.position] for ref in getattr(plan, name)]
            for name in ("anchor", "window")
        }
        seen = frames["anchor"] + frames["window"]
        assert len(seen) == len(set(seen))
    assert frames["anchor"] == list(range(anchor_frames))
    assert frames["window"] == [15, 16, 17]


@given(
    anchor=st.sampled_from(["adaptive", "frozen", "none"]),
    chunk=st.integers(1, 6),
    window=st.integers(0, 9),
    states=st.integers(0, 3),
    anchors=st.integers(1, 4),
    rope=st.sampled_from(["shared0", "split01"]),
    warmup=st.sampled_from(["fixed", "grow"]),
    holds=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_every_stream_settles(
    anchor: str,
    chunk: int,
    window: int,
    states: int,
    anchors: int,
    rope: str,
    warmup: str,
    holds: list[bool],
) -> None:
    """CachedFrames is bounded, indices stop changing, and no index is used twice in the context."""
    config = StreamConfig(
        anchor=anchor,
        chunk_frames=chunk,
        window_frames=window,
        state_frames=states,
        anchor_frames=anchors,
        state_rope=rope,
        warmup_positions=warmup,
    )
    policy = policy_for(config)
    cached = CachedFrames()
    layouts = []
    for hold in [*holds, *([False] * 12)]:
        now = policy.layout(config, cached)
        layouts.append(now)
        assert len(now.content) == chunk
        assert len(now.state) == policy.state_frames(config)
        assert len(set(now.context + now.content)) == len(now.context) + chunk
        assert max(now.window, default=-1) < now.content[0]
        plan = policy.commit(config, cached, hold=hold)
        cached = CachedFrames((0,) * len(plan.anchor), (0,) * len(plan.window))
        assert len(cached.window) <= window
        assert len(cached.anchor) <= max(states, anchors)
    assert len(set(layouts[-3:])) == 1


def test_places_are_counted_from_behind_the_reserved_ones() -> None:
    fixed = place(reserved=2, anchor=1, state=(0,), window=2, window_slots=3, content=2, grow=False)
    assert fixed == SlotLayout((0,), (3, 4), (0,), (5, 6))
    grown = place(reserved=2, anchor=1, state=(0,), window=2, window_slots=3, content=2, grow=True)
    assert grown == SlotLayout((0,), (2, 3), (0,), (4, 5))
    counted = place(
        reserved=2,
        anchor=2,
        state=(),
        window=2,
        window_slots=3,
        content=2,
        grow=False,
        committed=40,
    )
    assert counted == SlotLayout((0, 1), (38, 39), (), (40, 41))


def test_a_layout_reads_the_first_frames_of_slot_0_unless_it_says_which() -> None:
    usual = SlotLayout((5, 6), (7,), (1,), (8, 9))
    assert usual.picked == (0, 1)
    assert (usual.context, usual.block) == ((5, 6, 7), (1, 8, 9))
    assert SlotLayout((5, 6), (7,), (), (8,), chosen=(3, 1)).picked == (3, 1)


def test_frames_are_pointed_to_in_order() -> None:
    window = refs("window", 3)
    assert window == tuple(FrameRef("window", i) for i in range(3))
    assert newest(window, 2) == window[1:]
    assert newest(window, 9) == window
    assert newest(window, 0) == ()
    assert CachedFrames((0, 1), (5,)).frames == 3
