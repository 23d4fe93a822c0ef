"""The adaptive anchor: every chunk attends to the state of the one before."""

from __future__ import annotations

from dataclasses import replace

from adastate_core.anchors.adaptive import AdaptiveAnchor
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, SlotLayout, refs
from tests.support.frames import chunks

CONFIG = StreamConfig(chunk_frames=2, window_frames=3)


def test_the_first_chunks() -> None:
    seen = chunks(CONFIG, 4)
    assert [each.layout for each in seen] == [
        SlotLayout((), (), (0,), (4, 5)),
        SlotLayout((0,), (2, 3), (0,), (4, 5)),
        SlotLayout((0,), (1, 2, 3), (0,), (4, 5)),
        SlotLayout((0,), (1, 2, 3), (0,), (4, 5)),
    ]
    assert [each.anchor for each in seen] == [[], ["s0"], ["s1"], ["s2"]]
    assert [each.window for each in seen] == [
        [],
        ["c0", "c1"],
        ["c1", "c2", "c3"],
        ["c3", "c4", "c5"],
    ]


def test_a_split_state_stands_behind_the_previous_one() -> None:
    config = replace(CONFIG, state_rope="split01", state_frames=2)
    assert chunks(config, 2)[1].layout == SlotLayout((0, 1), (5, 6), (2, 3), (7, 8))


def test_indices_that_grow_begin_at_the_front() -> None:
    config = replace(CONFIG, warmup_positions="grow")
    starts = [each.layout.content[0] for each in chunks(config, 4)]
    assert starts == [1, 3, 4, 4]


def test_a_hold_keeps_the_state_that_is_there() -> None:
    seen = chunks(CONFIG, 5, held=(0, 2, 3))
    # A hold of an empty slot 0 has nothing to keep.
    assert [each.anchor for each in seen] == [[], ["s0"], ["s1"], ["s1"], ["s1"]]
    assert seen[4].window == ["c5", "c6", "c7"]


def test_an_anchor_of_another_policy_is_cut_to_the_states() -> None:
    policy, cached = AdaptiveAnchor(), CachedFrames((0, 1, 2), (3, 4, 5), 6)
    assert policy.layout(CONFIG, cached).anchor == (0,)
    assert policy.commit(CONFIG, cached, hold=True).anchor == refs("anchor", 3)


def test_slot_0_holds_no_content() -> None:
    policy = AdaptiveAnchor()
    assert (policy.sink_frames(CONFIG), policy.averages) == (0, "none")
    assert policy.kept_frames(replace(CONFIG, state_frames=2)) == 5
