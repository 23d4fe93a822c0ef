"""Measures against videos whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adastate_core.errors import LayoutError
from adastate_core.metrics.chart import draw_chart
from adastate_core.metrics.measures import measure_stream


def moving(frames: int, speed: int = 2, size: int = 48) -> torch.Tensor:
    video = torch.full((frames, size, size, 3), 0.3)
    for t in range(frames):
        x = (speed * t) % (size - 12)
        video[t, 16:28, x : x + 12] = torch.tensor([0.9, 0.2, 0.2])
    return video


def test_a_still_video_does_not_move() -> None:
    summary = measure_stream(moving(1).expand(40, -1, -1, -1)).summary()
    assert summary["dynamics"] == 0.0
    assert summary["seams"] == []


def test_faster_motion_measures_higher() -> None:
    slow, fast = (measure_stream(moving(16, speed)).summary()["dynamics"] for speed in (1, 2))
    assert fast > 1.5 * slow > 0


def test_drift_has_the_right_sign_and_size() -> None:
    video = moving(40) * torch.linspace(1.0, 0.7, 40)[:, None, None, None]
    drift = measure_stream(video).summary()["drift"]
    assert -0.45 < drift["luminance"] < -0.15
    washed = moving(40).lerp(moving(40).mean(-1, keepdim=True).expand(-1, -1, -1, 3), 0.5)
    joined = torch.cat((moving(40)[:20], washed[20:]))
    assert measure_stream(joined).summary()["drift"]["saturation"] < -0.2


def test_motion_that_dies_is_seen() -> None:
    video = torch.cat((moving(30), moving(30)[-1:].expand(30, -1, -1, -1)))
    assert measure_stream(video).summary()["motion_kept"] < 0.05


def test_a_jump_is_a_seam() -> None:
    video = moving(17)
    video[9:] = (video[9:] + 0.25).clamp(0, 1)
    assert measure_stream(video).summary()["seams"] == [9]


def test_long_videos_are_measured_in_pieces() -> None:
    video = moving(130)
    whole = measure_stream(video)
    parts = measure_stream(video[60:70])
    torch.testing.assert_close(whole.motion[60:69], parts.motion)
    assert len(whole.luminance) == 130


def test_the_chart_shows_the_lines() -> None:
    picture = draw_chart(measure_stream(moving(30)))
    assert picture.dtype == np.float32
    assert picture.shape[2] == 3
    assert 0.0 <= picture.min() < 0.2
    assert picture.max() > 0.8
    assert draw_chart(measure_stream(moving(2))).shape == picture.shape


def test_a_single_picture_is_refused() -> None:
    with pytest.raises(LayoutError, match="two frames or more"):
        measure_stream(moving(1))
