"""The rolling anchor: the first frames stand in for the past, walked back and forth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adastate_core.anchors.rolling import ping_pong
from adastate_core.config import StreamConfig
from adastate_core.layout import SlotLayout
from tests.support.frames import chunks

CONFIG = StreamConfig(anchor="rolling", chunk_frames=2, window_frames=2, anchor_frames=4)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_walk_goes_back_and_forth(size: int) -> None:
    forth = list(range(size))
    walk = [ping_pong(frame, size) for frame in range(4 * size)]
    assert walk == forth + forth[::-1] + forth + forth[::-1]


def test_until_the_first_frames_are_there_they_are_read_as_they_are() -> None:
    seen = chunks(CONFIG, 3)
    assert [each.anchor for each in seen] == [[], ["c0", "c1"], ["c0", "c1", "c2", "c3"]]
    assert [each.window for each in seen] == [[], [], []]


def test_then_they_stand_for_the_frames_before_the_window() -> None:
    seen = chunks(CONFIG, 7)
    # At chunk k the past is frames 2k - 4 .. 2k - 3, and 2k - 2 .. 2k - 1 are real.
    stands_for = [ping_pong(frame, 4) for k in range(3, 7) for frame in (2 * k - 4, 2 * k - 3)]
    assert stands_for == [2, 3, 3, 2, 1, 0, 0, 1]
    assert [each.anchor for each in seen[3:]] == [
        ["c2", "c3"],
        ["c3", "c2"],
        ["c1", "c0"],
        ["c0", "c1"],
    ]
    assert [each.window for each in seen[3:]] == [
        ["c4", "c5"],
        ["c6", "c7"],
        ["c8", "c9"],
        ["c10", "c11"],
    ]


def test_they_are_placed_right_before_the_window() -> None:
    full = SlotLayout((0, 1), (2, 3), (), (4, 5), chosen=(1, 0))
    assert chunks(CONFIG, 6)[5].layout == full
    absolute = chunks(replace(CONFIG, positions="absolute"), 6)[5].layout
    assert absolute == SlotLayout((6, 7), (8, 9), (), (10, 11), chosen=(1, 0))


def test_a_first_chunk_has_the_place_of_every_later_one() -> None:
    seen = chunks(CONFIG, 6)
    assert {each.layout.content for each in seen} == {(4, 5)}
    grown = chunks(replace(CONFIG, warmup_positions="grow"), 6)
    assert [each.layout.content[0] for each in grown] == [0, 2, 4, 4, 4, 4]
