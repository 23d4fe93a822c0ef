"""Two averages beside the first frames: a slow and a quick one of what left the window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adastate_core.anchors.dual_ema import DualEmaAnchor
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, FrameMix, SlotLayout
from tests.support.frames import chunks

CONFIG = StreamConfig(
    anchor="dual_ema",
    chunk_frames=2,
    window_frames=2,
    anchor_frames=1,
    ema_rate=0.75,
    ema_fast_rate=0.25,
)


def test_until_something_has_to_leave_all_of_the_past_is_kept() -> None:
    seen = chunks(CONFIG, 4)
    assert [each.anchor for each in seen[:3]] == [[], ["c0"], ["c0"]]
    assert [each.window for each in seen[:3]] == [[], ["c1"], ["c1", "c2", "c3"]]


def test_both_averages_begin_with_what_leaves_first() -> None:
    fourth = chunks(CONFIG, 4)[3]
    # Of c1 .. c5 the newest two stay; of those that leave, the newest chunk is averaged.
    assert fourth.window == ["c4", "c5"]
    assert fourth.anchor == ["c0", {"c2": 0.5, "c3": 0.5}, {"c2": 0.5, "c3": 0.5}]


def test_then_each_goes_on_at_its_own_rate() -> None:
    slow, quick = chunks(CONFIG, 5)[4].anchor[1:]
    assert slow == {"c2": 0.375, "c3": 0.375, "c4": 0.125, "c5": 0.125}
    assert quick == {"c2": 0.125, "c3": 0.125, "c4": 0.375, "c5": 0.375}


def test_averages_take_the_places_of_what_was_kept() -> None:
    seen = chunks(CONFIG, 5)
    assert [each.layout for each in seen] == [
        SlotLayout((), (), (), (5, 6)),
        SlotLayout((0,), (4,), (), (5, 6)),
        SlotLayout((0,), (2, 3, 4), (), (5, 6)),
        SlotLayout((0, 1, 2), (3, 4), (), (5, 6)),
        SlotLayout((0, 1, 2), (3, 4), (), (5, 6)),
    ]


def test_absolute_indices_count_the_stream() -> None:
    seen = chunks(replace(CONFIG, positions="absolute"), 5)
    assert [each.layout.content for each in seen] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert seen[4].layout.anchor == (0, 1, 2)
    assert seen[4].layout.window == (6, 7)


def test_a_hold_averages_nothing() -> None:
    seen = chunks(CONFIG, 7, held=(4, 5))
    assert seen[5].anchor == seen[6].anchor == seen[4].anchor
    assert seen[6].window == ["c10", "c11"]


def test_averages_are_also_over_the_picture() -> None:
    policy = DualEmaAnchor()
    assert policy.averages == "picture"
    assert policy.kept_frames(CONFIG) == 5
    plan = policy.commit(CONFIG, CachedFrames((0, 1, 2), (3, 4), 8), hold=False)
    mixes = [kept for kept in plan.anchor if isinstance(kept, FrameMix)]
    assert [mix.pooled for mix in mixes] == [True, True]
    assert all(sum(w for _, w in mix.terms) == pytest.approx(1.0) for mix in mixes)
