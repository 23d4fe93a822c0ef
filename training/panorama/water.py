"""Paints the sea: the sky upside down, lanes of wind, and the glitter of the sun or the moon."""

from __future__ import annotations

import torch
from torch import Tensor

from training.panorama import palette, sky
from training.panorama.canvas import HORIZON, Canvas, plane
from training.panorama.journey import WIDTH
from training.panorama.noise import roll, smooth

TOP, BOTTOM = int(HORIZON), 108
# Lanes of wind: their rows grow towards the eye, and each keeps the speed of its distance.
LANES = (0.0, 1.6, 3.4, 5.6, 8.2, 11.4, 15.4, 20.2, 26.0, 33.0, 42.0)


def paint_water(canvas: Canvas) -> None:
    rows = canvas.rows(TOP, BOTTOM)
    depth = rows - HORIZON
    mirrored = sky.sky_at(canvas, HORIZON - 2.0 - depth * 1.75)
    deep = palette.stops(
        canvas.light,
        ((0.05, 0.30, 0.46), (0.20, 0.18, 0.36), (0.06, 0.09, 0.22), (0.02, 0.05, 0.13)),
    )
    # The nearer, the more one looks into the water and the less at what it mirrors.
    clear = (0.18 + depth * 0.014).clamp(max=0.6)[:, None]
    body = mirrored * (1.0 - clear) + plane(deep) * clear
    below = canvas.image[:, :, TOP:BOTTOM]
    below.copy_(body.expand(-1, -1, -1, WIDTH))
    ripple = _lanes(canvas, depth, 31, 30.0)
    strength = smooth(depth, 0.0, 5.0)
    lift = canvas.sky[:, 1] * 0.5 + canvas.sky[:, 2] * 0.5
    canvas.over(plane(lift), smooth(ripple, 0.55, 0.95) * strength * 0.28, TOP, BOTTOM)
    canvas.over(plane(deep), smooth(1.0 - ripple, 0.55, 0.95) * strength * 0.22, TOP, BOTTOM)
    _glitter(canvas, depth)
    # A thin bright line of haze softens the edge of the sea.
    canvas.over(
        plane(canvas.haze),
        ((2.2 - depth) * 0.4).clamp(0.0, 1.0).expand(len(canvas.light), -1, WIDTH),
        TOP,
        BOTTOM,
    )


def _lanes(canvas: Canvas, depth: Tensor, channel: int, length: float) -> Tensor:
    """Noise in [0, 1] whose lanes each move at their own speed, ``(P, rows, W)``."""
    total: Tensor | None = None
    for index in range(len(LANES) - 1):
        speed = 0.25 + 0.7 * LANES[index] / 34.0
        reach = length * (0.35 + speed)
        # Wind carries the ripples along, slowly and for ever.
        v = (canvas.columns() - 96.0) + canvas.camera[:, None] * speed
        v = (v + canvas.time[:, None] * (0.25 * speed)) * (1.0 / reach)
        cell = v.floor()
        t = v - cell
        low, high = (roll(cell + step, canvas.salt, channel + index) for step in (0.0, 1.0))
        row = low + (high - low) * (t * t * (3.0 - 2.0 * t))
        rise = 1.0 if index == 0 else LANES[index] - LANES[index - 1]
        fall = LANES[index + 1] - LANES[index]
        off = depth - LANES[index]
        share = torch.minimum(1.0 + off / rise, 1.0 - off / fall).clamp(0.0, 1.0)
        part = row[:, None, :] * share
        total = part if total is None else total + part
    assert total is not None
    return total


def _glitter(canvas: Canvas, depth: Tensor) -> None:
    light = canvas.light
    shine = 1.0 - smooth(light, 0.52, 0.7)
    dusk = smooth(light, 0.1, 0.45) * shine
    moon = smooth(light, 0.62, 0.9)
    sparkle = _lanes(canvas, depth, 51, 13.0)
    for x, colour, strength, wide in (
        (sky.SUN_X, palette.stops(light, palette.SUN), 0.55 * shine + 0.4 * dusk, 12.0),
        (sky.MOON_X, light.new_tensor([[0.82, 0.89, 1.0]]), 0.62 * moon, 8.0),
    ):
        across = (canvas.columns() - x)[:, None] / (wide + depth * 0.55)
        lane = (-(across * across)).exp()
        broken = smooth(sparkle, 0.42, 0.78) * smooth(depth, 0.0, 6.0) + 0.75 * (
            1.0 - smooth(depth, 0.0, 6.0)
        )
        canvas.add(
            colour,
            lane * (0.25 + 0.75 * broken) * plane(strength) * smooth(depth, -1.0, 1.5),
            TOP,
            BOTTOM,
        )
