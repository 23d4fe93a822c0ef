"""The frozen anchor: the first frames of the stream stay, each in slot 0 or in the window."""

from __future__ import annotations

from dataclasses import replace

from adastate_core.config import StreamConfig
from adastate_core.layout import SlotLayout
from tests.support.frames import chunks

CONFIG = StreamConfig(anchor="frozen", chunk_frames=2, window_frames=2, anchor_frames=3)


def test_the_first_chunks() -> None:
    seen = chunks(CONFIG, 4)
    assert [each.layout for each in seen] == [
        SlotLayout((), (), (), (5, 6)),
        SlotLayout((0, 1), (), (), (5, 6)),
        SlotLayout((0, 1, 2), (4,), (), (5, 6)),
        SlotLayout((0, 1, 2), (3, 4), (), (5, 6)),
    ]
    assert [each.anchor for each in seen] == [
        [],
        ["c0", "c1"],
        ["c0", "c1", "c2"],
        ["c0", "c1", "c2"],
    ]
    assert [each.window for each in seen] == [[], [], ["c3"], ["c4", "c5"]]


def test_absolute_indices_are_those_of_the_stream() -> None:
    seen = chunks(replace(CONFIG, positions="absolute"), 5)
    assert [each.layout.content for each in seen] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert [each.layout.window for each in seen] == [(), (), (3,), (4, 5), (6, 7)]
    assert [each.layout.anchor for each in seen][2:] == [(0, 1, 2)] * 3


def test_indices_that_grow_begin_at_the_front() -> None:
    seen = chunks(replace(CONFIG, warmup_positions="grow"), 4)
    assert [each.layout.content[0] for each in seen] == [0, 2, 4, 5]


def test_a_held_anchor_that_has_begun_to_fill_stays() -> None:
    seen = chunks(CONFIG, 4, held=(0, 1))
    assert [each.anchor for each in seen] == [[], ["c0", "c1"], ["c0", "c1"], ["c0", "c1"]]
    assert [each.window for each in seen] == [[], [], ["c2", "c3"], ["c4", "c5"]]
