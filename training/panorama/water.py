"""Paints the sea: the sky upside down, lanes of wind, and the glitter of the sun or the moon."""

from __future__ import annotations

import torch
from torch import Tensor

from training.panorama import palette, sky
from training.panorama.canvas import HORIZON, Canvas, plane
from training.panorama.noise import roll, smooth

TOP, BOTTOM = int(HORIZON), 102
# Lanes of wind: their rows grow towards the eye, and each keeps the speed of its distance.
LANES = (0.0, 1.6, 3.4, 5.6, 8.2, 11.4, 15.4, 20.2, 26.0, 33.0)
# Glints lie closer.
GLINTS = (0.0, 1.6, 3.4, 5.4, 7.6, 10.0, 12.6, 15.4, 18.4, 21.6, 25.0, 28.6, 32.4)
# The sea changes into land between the speeds of the far and the middle layer.
SPEED, SOFT = 0.4, 300.0
DEEP = ((0.05, 0.31, 0.46), (0.20, 0.18, 0.36), (0.06, 0.09, 0.22), (0.02, 0.05, 0.13))


def paint_water(canvas: Canvas) -> None:
    v = canvas.columns() - 96.0 + canvas.camera[:, None] * SPEED
    coast = palette.presence(v * (1.0 / SPEED), SOFT)[0]
    if not bool((coast > 0.0).any()):
        return
    rows = canvas.rows(TOP, BOTTOM)
    depth = rows - HORIZON
    # What stands over the horizon is seen again under it, upside down and foreshortened.
    at = HORIZON - 1.5 - depth[0, :, 0] * 1.5
    high = at.floor()
    part = (at - high)[:, None]
    row = high.to(torch.int64)
    mirrored = canvas.image[:, :, row] * (1.0 - part) + canvas.image[:, :, row + 1] * part
    deep = palette.stops(canvas.light, DEEP)[..., None, None]
    # The nearer, the more one looks into the water and the less at what it mirrors.
    clear = (0.18 + depth * 0.014).clamp(max=0.6)[:, None]
    body = mirrored * (1.0 - clear) + deep * clear
    ripple = _lanes(canvas, depth, LANES, 31, 30.0)
    strength = smooth(depth, 0.0, 5.0)
    lift = plane(canvas.sky[:, 1] * 0.5 + canvas.sky[:, 2] * 0.5)
    bright = smooth(ripple, 0.55, 0.95) * strength * 0.28
    dark = smooth(1.0 - ripple, 0.55, 0.95) * strength * 0.22
    sea = body + (lift - body) * bright[:, None]
    sea += (deep - sea) * dark[:, None]
    _glitter(canvas, sea, depth)
    # A thin bright line of haze softens the edge of the sea.
    edge = ((2.2 - depth) * 0.4).clamp(0.0, 1.0)
    sea += (plane(canvas.haze) - sea) * edge[:, None]
    canvas.over(sea, coast[:, None] * (depth + 0.5).clamp(0.0, 1.0), TOP, BOTTOM)


def _lanes(
    canvas: Canvas, depth: Tensor, at_rows: tuple[float, ...], channel: int, length: float
) -> Tensor:
    """Noise in [0, 1] whose lanes each move at their own speed, ``(P, rows, W)``."""
    lanes = canvas.light.new_tensor(at_rows)[None, :, None]
    speed = 0.25 + 0.7 * lanes / 34.0
    # Wind carries the ripples along, slowly and for ever.
    v = canvas.columns()[:, None] - 96.0
    v = v + (canvas.camera[:, None, None] + 0.25 * canvas.time[:, None, None]) * speed
    v = v / (length * (0.35 + speed))
    cell = v.floor()
    t = v - cell
    which = torch.arange(len(at_rows), device=v.device)[None, :, None] * 4099
    salt = canvas.salt[:, :, None] + which
    low, high = roll(cell, salt, channel), roll(cell + 1.0, salt, channel)
    values = low + (high - low) * (t * t * (3.0 - 2.0 * t))
    # Between the rows of two lanes their noise is mixed.
    at = depth[0, :, 0]
    upper = (at[:, None] >= lanes[0, :, 0]).sum(1) - 1
    lower = (upper + 1).clamp(max=len(at_rows) - 1)
    edges = lanes[0, :, 0]
    gap = (edges[lower] - edges[upper]).clamp(min=1.0)
    share = ((at - edges[upper]) / gap).clamp(0.0, 1.0)[None, :, None]
    return values[:, upper] * (1.0 - share) + values[:, lower] * share


def _glitter(canvas: Canvas, sea: Tensor, depth: Tensor) -> None:
    light = canvas.light
    shine = 1.0 - smooth(light, 0.52, 0.7)
    dusk = smooth(light, 0.1, 0.45) * shine
    moon = smooth(light, 0.62, 0.9)
    near = smooth(depth, 0.0, 6.0)
    broken = smooth(_lanes(canvas, depth, GLINTS, 51, 12.0), 0.46, 0.8) * near + 0.75 * (1.0 - near)
    broken = (0.2 + 0.8 * broken) * smooth(depth, -1.0, 1.5)
    for x, colour, strength, wide in (
        (sky.SUN_X, palette.stops(light, palette.SUN), 0.5 * shine + 0.42 * dusk, 12.0),
        (sky.MOON_X, palette.table(((0.82, 0.89, 1.0),), light.device), 0.62 * moon, 8.0),
    ):
        across = (canvas.columns() - x)[:, None] / (wide + depth * 0.55)
        lane = (-(across * across)).exp()
        sea += (1.0 - sea) * (plane(colour) * (lane * broken * plane(strength))[:, None])
