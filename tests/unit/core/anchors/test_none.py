"""No anchor: a window that slides."""

from __future__ import annotations

from dataclasses import replace

from adastate_core.anchors.none import NoAnchor
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, SlotLayout
from tests.support.frames import chunks

CONFIG = StreamConfig(anchor="none", chunk_frames=2, window_frames=3)


def test_the_first_chunks() -> None:
    seen = chunks(CONFIG, 4)
    assert [each.layout for each in seen] == [
        SlotLayout((), (), (), (3, 4)),
        SlotLayout((), (1, 2), (), (3, 4)),
        SlotLayout((), (0, 1, 2), (), (3, 4)),
        SlotLayout((), (0, 1, 2), (), (3, 4)),
    ]
    assert [each.window for each in seen] == [
        [],
        ["c0", "c1"],
        ["c1", "c2", "c3"],
        ["c3", "c4", "c5"],
    ]


def test_absolute_indices_are_those_of_the_stream() -> None:
    seen = chunks(replace(CONFIG, positions="absolute"), 3)
    assert [each.layout.block for each in seen] == [(0, 1), (2, 3), (4, 5)]
    assert [each.layout.window for each in seen] == [(), (0, 1), (1, 2, 3)]


def test_without_a_window_a_chunk_sees_itself() -> None:
    seen = chunks(replace(CONFIG, window_frames=0), 3)
    assert [each.layout.context for each in seen] == [(), (), ()]
    assert {each.layout.content for each in seen} == {(0, 1)}


def test_what_another_policy_left_in_slot_0_is_dropped() -> None:
    policy, cached = NoAnchor(), CachedFrames((0,), (1, 2, 3), 4)
    assert policy.layout(CONFIG, cached).anchor == ()
    for hold in (False, True):
        assert policy.commit(CONFIG, cached, hold=hold).anchor == ()
