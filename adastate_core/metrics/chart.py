"""Draw the measures of a stream, or the losses of a training run, as one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .measures import StreamMeasures

_WIDTH, _PANEL, _MARGIN, _GAP = 960, 200, 64, 56
_BACKGROUND, _INK, _FAINT, _ALARM = "#16181d", "#e8e6e1", "#343841", "#ff5d5d"
_COLOURS = ("#7ec8ff", "#ffc46b", "#9be38f")

Series = list[tuple[str, Tensor]]


def draw_chart(measures: StreamMeasures) -> np.ndarray:
    """Draw motion and look over time.

    Returns:
        The image, (H, W, 3) float32 in 0 to 1.
    """
    height = 2 * _PANEL + 3 * _GAP
    image = Image.new("RGB", (_WIDTH, height), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    look = [
        ("luminance", _relative(measures.luminance)),
        ("saturation", _relative(measures.saturation)),
        ("sharpness", _relative(measures.sharpness)),
    ]
    _panel(draw, _GAP, "motion per frame (Lab distance)", [("motion", measures.motion)], 0.0)
    for frame in measures.seams:
        x = _x(frame - 1, len(measures.motion))
        draw.line((x, _GAP, x, _GAP + _PANEL), fill=_ALARM, width=2)
    if measures.seams:
        draw.text((_WIDTH - _MARGIN, _GAP - 24), "seams", fill=_ALARM, font=_font(15), anchor="ra")
    _panel(draw, 2 * _GAP + _PANEL, "look relative to the start", look, 0.5)
    last = len(measures.luminance) - 1
    draw.text(
        (_WIDTH - _MARGIN, height - 34), f"frame {last}", fill=_INK, font=_font(14), anchor="ra"
    )
    return np.asarray(image, dtype=np.float32) / 255.0


def draw_losses(losses: Sequence[float]) -> Image.Image:
    """Draw the loss of every step of a training run, and its average over the steps before.

    Args:
        losses: The losses, one or more.
    """
    image = Image.new("RGB", (_WIDTH, _PANEL + 2 * _GAP), _BACKGROUND)
    values = torch.tensor(losses)
    width = max(1, len(losses) // 20)
    sums = torch.cat((torch.zeros(1), values.cumsum(0)))
    begins = (torch.arange(len(losses)) + 1 - width).clamp(min=0)
    average = (sums[1:] - sums[begins]) / (torch.arange(len(losses)) + 1 - begins)
    high = float(average.max()) * 1.5
    shown = [("loss", values.clamp(max=high)), ("average", average)]
    draw = ImageDraw.Draw(image)
    _panel(draw, _GAP, f"{len(losses)} steps, average {average[-1]:.4f}", shown, 0.0)
    return image


def as_image(drawn: Image.Image) -> Tensor:
    """Return what was drawn as images have it, (1, H, W, 3) float32 in 0 to 1."""
    return torch.from_numpy(np.asarray(drawn, dtype=np.float32) / 255.0)[None]


def _panel(draw: ImageDraw.ImageDraw, top: int, title: str, series: Series, low: float) -> None:
    """Draw one set of lines with its title, its legend and three horizontal guides."""
    high = max([float(values.max()) for _, values in series if len(values)] + [low + 1e-3])
    low = min([float(values.min()) for _, values in series if len(values)] + [low])
    high += 0.05 * (high - low)
    draw.text((_MARGIN, top - 26), title, fill=_INK, font=_font(17))
    for share in (0.0, 0.5, 1.0):
        y = top + _PANEL * (1.0 - share)
        draw.line((_MARGIN, y, _WIDTH - _MARGIN, y), fill=_FAINT)
        label = f"{low + share * (high - low):.2f}"
        draw.text((_MARGIN - 8, y), label, fill=_INK, font=_font(13), anchor="rm")
    for i, (name, values) in enumerate(series):
        points = [
            (_x(j, len(values)), top + _PANEL * (1.0 - (float(v) - low) / (high - low)))
            for j, v in enumerate(values)
        ]
        if len(points) > 1:
            draw.line(points, fill=_COLOURS[i], width=2, joint="curve")
        if len(series) > 1:
            at = (_WIDTH - _MARGIN - 110 * (len(series) - 1 - i), top - 24)
            draw.text(at, name, fill=_COLOURS[i], font=_font(15), anchor="ra")


def _x(position: int, count: int) -> float:
    return _MARGIN + (_WIDTH - 2 * _MARGIN) * position / max(count - 1, 1)


def _relative(values: Tensor) -> Tensor:
    base = float(values[: max(len(values) // 5, 1)].mean())
    return values / base if base > 1e-6 else values


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
