"""The chart of a stream: where its lines are, and what they are scaled to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adastate_core.metrics.chart import as_image, draw_chart, draw_losses
from adastate_core.metrics.measures import StreamMeasures

ALARM, FIRST, SECOND = (0xFF, 0x5D, 0x5D), (0x7E, 0xC8, 0xFF), (0xFF, 0xC4, 0x6B)


def measures(frames: int = 12) -> StreamMeasures:
    flat = torch.ones(frames)
    values = {
        "motion": torch.ones(frames - 1),
        "luminance": flat,
        "saturation": flat,
        "sharpness": flat,
        "seams": (),
    }
    return StreamMeasures(**{k: values[k] for k in StreamMeasures.__dataclass_fields__})


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Return (row, column) of all pixels of a colour."""
    exact = np.rint(picture * 255).astype(int)
    return np.argwhere((exact == colour).all(axis=-1))


def test_it_is_a_picture_from_0_to_1() -> None:
    picture = draw_chart(measures())
    assert picture.dtype == np.float32
    assert picture.shape == (568, 960, 3)
    assert 0.0 <= picture.min() < picture.max() <= 1.0


def test_seams_are_marked_at_their_frames() -> None:
    assert not len(places(draw_chart(measures()), ALARM))
    marked = places(draw_chart(replace(measures(), seams=(1, 6))), ALARM)
    lines = marked[(marked[:, 0] > 60) & (marked[:, 0] < 250)]
    columns = sorted({*lines[:, 1].tolist()})
    # Eleven motions over 832 pixels: frame 1 at the left edge, frame 6 in the middle.
    assert min(columns) == pytest.approx(64, abs=1)
    assert max(columns) == pytest.approx(64 + 832 / 2, abs=1)


def test_motion_that_grows_goes_up() -> None:
    picture = draw_chart(replace(measures(), motion=torch.linspace(1.0, 3.0, 11)))
    line = places(picture, FIRST)
    line = line[(line[:, 0] < 260) & (line[:, 0] > 50)]
    left, right = line[line[:, 1] < 100][:, 0].mean(), line[line[:, 1] > 860][:, 0].mean()
    assert right < left - 100  # rows are counted from the top


def test_a_look_is_relative_to_the_start() -> None:
    """Twice as bright throughout is the same chart; brighter at its end is not."""
    usual = measures()
    assert np.array_equal(
        draw_chart(usual), draw_chart(replace(usual, luminance=usual.luminance * 2))
    )
    later = usual.luminance.clone()
    later[6:] = 2.0
    assert not np.array_equal(draw_chart(usual), draw_chart(replace(usual, luminance=later)))


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_streams_have_a_chart(frames: int) -> None:
    assert draw_chart(measures(frames)).shape == (568, 960, 3)


def test_a_black_stream_has_a_chart() -> None:
    dark = torch.zeros(12)
    picture = draw_chart(replace(measures(), luminance=dark, saturation=dark, sharpness=dark))
    assert np.isfinite(picture).all()


def test_losses_that_fall_go_down_and_end_at_their_average() -> None:
    falling = as_image(draw_losses([2.0 - step / 50 for step in range(100)]))
    assert falling.shape[0] == 1
    assert falling.shape[3] == 3
    line = places(falling[0].numpy(), SECOND)
    line = line[(line[:, 0] > 50) & (line[:, 1] < 890)]
    left, right = line[line[:, 1] < 100][:, 0].mean(), line[line[:, 1] > 860][:, 0].mean()
    assert right > left + 50  # rows are counted from the top
    assert torch.isfinite(as_image(draw_losses([0.5]))).all()
    assert torch.isfinite(as_image(draw_losses([0.0, 0.0]))).all()
