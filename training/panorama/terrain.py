"""Shapes of the land: how high each layer of each region stands, as a function of place alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama import palette
from training.panorama.canvas import Canvas
from training.panorama.noise import dunes, peaks, smooth, wave


@dataclass(frozen=True, slots=True)
class Layer:
    """One silhouette of the panorama: its speed against the near layer and where it stands."""

    name: str
    index: int
    speed: float
    base: float
    # Pixels of the near layer that a change of region takes here.
    soft: float
    # What the air leaves of its colours at the crest and at the foot, and rows to the foot.
    haze: tuple[float, float]
    foot: float
    channel: int


FAR = Layer("far", 0, 0.25, 74.0, 420.0, (0.56, 0.84), 26.0, 100)
MIDDLE = Layer("middle", 1, 0.5, 88.0, 260.0, (0.22, 0.6), 26.0, 200)
# A fold of the near ground in front of it, at the same speed.
FRONT = Layer("front", 2, 1.0, 119.0, 150.0, (0.0, 0.0), 20.0, 400)
NEAR = Layer("near", 2, 1.0, 106.0, 150.0, (0.0, 0.0), 30.0, 300)


def along(canvas: Canvas, layer: Layer, pad: int = 0) -> Tensor:
    """Places on a layer under the columns, ``(P, W + 2 pad)`` in the layer's own pixels."""
    return canvas.columns(pad) - 96.0 + canvas.camera[:, None] * layer.speed


def regions(layer: Layer, v: Tensor) -> list[Tensor]:
    return palette.presence(v * (1.0 / layer.speed), layer.soft)


def height(layer: Layer, v: Tensor, salt: Tensor, shares: list[Tensor]) -> Tensor:
    """Rows from the layer's base up to its crest at places ``v``; below zero under the base."""
    c = layer.channel
    heights = _HEIGHTS[layer.name]
    total = torch.zeros_like(v)
    for index, shape in enumerate(heights):
        # Most pictures show one region or two; what adds nothing need not be worked out.
        if bool((shares[index] > 0.0).any()):
            total = total + shares[index] * shape(v, salt, c + 12 * index)
    return total


def _far_coast(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 2.0 + 15.0 * smooth(wave(v, 64.0, s, c), 0.5, 1.0) + 1.5 * wave(v, 17.0, s, c + 1)


def _far_hills(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 8.0 + 13.0 * wave(v, 62.0, s, c) + 3.0 * wave(v, 23.0, s, c + 1)


def _far_forest(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 11.0 + 15.0 * wave(v, 54.0, s, c) + 2.6 * peaks(v, 5.0, s, c + 1, 1.6)


def _far_town(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 8.0 + 10.0 * wave(v, 70.0, s, c) + 2.0 * wave(v, 19.0, s, c + 1)


def _far_desert(v: Tensor, s: Tensor, c: int) -> Tensor:
    table = smooth(wave(v, 34.0, s, c), 0.5, 0.66) * (9.0 + 9.0 * wave(v, 60.0, s, c + 1))
    return 5.0 + table + 3.0 * wave(v, 21.0, s, c + 2)


def _far_mountains(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 12.0 + 36.0 * peaks(v, 62.0, s, c, 1.5) + 5.0 * peaks(v, 17.0, s, c + 4, 1.3)


def _middle_coast(v: Tensor, s: Tensor, c: int) -> Tensor:
    return -22.0 + 30.0 * smooth(wave(v, 74.0, s, c), 0.6, 1.0)


def _middle_hills(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 9.0 + 15.0 * wave(v, 74.0, s, c) + 2.0 * wave(v, 29.0, s, c + 1)


def _middle_forest(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 9.0 + 8.0 * wave(v, 60.0, s, c)


def _middle_town(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 10.0 + 9.0 * wave(v, 90.0, s, c)


def _middle_desert(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 7.0 + 19.0 * dunes(v, 86.0, s, c)


def _middle_mountains(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 11.0 + 22.0 * peaks(v, 62.0, s, c, 1.5) + 3.5 * peaks(v, 19.0, s, c + 4, 1.3)


def _near_coast(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 6.0 + 8.0 * wave(v, 110.0, s, c)


def _near_hills(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 11.0 + 13.0 * wave(v, 120.0, s, c)


def _near_forest(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 9.0 + 6.0 * wave(v, 70.0, s, c)


def _near_town(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 7.0 + 4.0 * wave(v, 140.0, s, c)


def _near_desert(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 5.0 + 24.0 * dunes(v, 168.0, s, c)


def _near_mountains(v: Tensor, s: Tensor, c: int) -> Tensor:
    return 9.0 + 15.0 * wave(v, 84.0, s, c) + 3.0 * wave(v, 21.0, s, c + 1)


_HEIGHTS = {
    "far": (_far_coast, _far_hills, _far_forest, _far_town, _far_desert, _far_mountains),
    "middle": (
        _middle_coast,
        _middle_hills,
        _middle_forest,
        _middle_town,
        _middle_desert,
        _middle_mountains,
    ),
    "near": (
        _near_coast,
        _near_hills,
        _near_forest,
        _near_town,
        _near_desert,
        _near_mountains,
    ),
}
_HEIGHTS["front"] = _HEIGHTS["near"]
