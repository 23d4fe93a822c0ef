"""The averaged anchor: what leaves the window is blended into slot 0."""

from __future__ import annotations

import pytest

from adastate_core.anchors.ema import EmaAnchor
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, FrameMix, FrameRef
from tests.support.frames import chunks

CONFIG = StreamConfig(anchor="ema", chunk_frames=2, window_frames=2, anchor_frames=1, ema_rate=0.5)


def test_it_fills_and_is_laid_out_as_a_frozen_one() -> None:
    frozen = StreamConfig(anchor="frozen", chunk_frames=2, window_frames=2, anchor_frames=1)
    seen, expected = chunks(CONFIG, 5), chunks(frozen, 5)
    assert [each.layout for each in seen] == [each.layout for each in expected]
    assert [each.window for each in seen] == [each.window for each in expected]
    assert seen[1].anchor == ["c0"]


def test_frames_that_leave_are_blended_oldest_first() -> None:
    seen = chunks(CONFIG, 4)
    assert seen[2].anchor == [{"c0": 0.5, "c1": 0.5}]
    # c2 and c3 leave: 1/4 of what was, 1/4 of the older one, 1/2 of the newer one.
    assert seen[3].anchor == [{"c0": 0.125, "c1": 0.125, "c2": 0.25, "c3": 0.5}]


def test_frame_i_that_leaves_goes_into_frame_i() -> None:
    config = StreamConfig(
        anchor="ema", chunk_frames=2, window_frames=2, anchor_frames=2, ema_rate=0.75
    )
    seen = chunks(config, 4)
    assert seen[2].anchor == ["c0", "c1"]
    assert seen[3].anchor == [{"c0": 0.75, "c2": 0.25}, {"c1": 0.75, "c3": 0.25}]


def test_shares_are_always_a_whole() -> None:
    for each in chunks(StreamConfig(anchor="ema", anchor_frames=2, window_frames=4), 12):
        for frame in each.anchor:
            assert isinstance(frame, str) or sum(frame.values()) == pytest.approx(1.0)


def test_a_hold_blends_nothing() -> None:
    seen = chunks(CONFIG, 5, held=(2, 3))
    assert seen[3].anchor == seen[4].anchor == seen[2].anchor


def test_averages_are_of_frames_at_their_places() -> None:
    assert EmaAnchor().averages == "frames"
    (mix,) = EmaAnchor().commit(CONFIG, CachedFrames((0,), (1, 2), 4), hold=False).anchor
    assert isinstance(mix, FrameMix)
    assert not mix.pooled
    assert mix.terms[0][0] == FrameRef("anchor", 0)
