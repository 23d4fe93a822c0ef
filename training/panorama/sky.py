"""Paints the sky: its gradient, the sun and the moon, stars and drifting clouds."""

from __future__ import annotations

import torch
from torch import Tensor

from training.panorama import palette
from training.panorama.canvas import HORIZON, Canvas, plane
from training.panorama.journey import WIDTH
from training.panorama.noise import roll, smooth

# The land covers all below.
ROWS = 74
SUN_X, MOON_X = 150.0, 44.0
CLOUD_DRIFT = 0.12
# A heap of cloud: of each puff its place across, its height and half its width.
PUFFS = ((-22.0, 4.0, 13.0), (-7.0, 9.5, 14.0), (9.0, 8.0, 13.0), (23.0, 4.0, 12.0))


def sun_height(light: Tensor) -> Tensor:
    """Row of the sun's middle: high by day, on the horizon at dusk, gone in the blue hour."""
    return 22.0 + 100.0 * light * (0.45 + 0.55 * light)


def moon_height(light: Tensor) -> Tensor:
    return 22.0 + 62.0 * (1.0 - smooth(light, 0.5, 1.0))


def paint_sky(canvas: Canvas) -> None:
    t = (canvas.rows(0, ROWS) * (1.0 / HORIZON)).clamp(max=1.0)[:, None]
    top, middle, horizon = (canvas.sky[:, index, :, None, None] for index in range(3))
    # A curve through three colours has no corner that the eye could catch.
    gradient = top * ((1.0 - t) * (1.0 - t)) + middle * (2.0 * t * (1.0 - t)) + horizon * (t * t)
    canvas.image[:, :, :ROWS] = gradient
    # Land lies over the rest, yet its soft edges want something under them.
    canvas.image[:, :, ROWS:] = horizon
    _stars(canvas)
    _sun(canvas)
    _moon(canvas)
    _clouds(canvas)


def _halo(canvas: Canvas, x: float, y: Tensor, wide: float, flat: float = 1.0) -> Tensor:
    """A soft round light, as a product of its profiles across and down."""
    across = (canvas.columns() - x) * (1.0 / wide)
    down = (canvas.rows(0, ROWS)[..., 0] - y[:, None]) * (flat / wide)
    return (-(down * down)).exp()[:, :, None] * (-(across * across)).exp()[:, None, :]


def _disc(canvas: Canvas, x: float, y: Tensor, radius: Tensor, soft: float, span: slice) -> Tensor:
    across = canvas.columns()[:, None, span] - x
    down = canvas.rows(0, ROWS) - plane(y)
    far = (across * across + down * down).sqrt()
    return ((plane(radius) - far) * soft + 0.5).clamp(0.0, 1.0)


def _put(canvas: Canvas, colour: Tensor, cover: Tensor, span: slice) -> None:
    below = canvas.image[:, :, :ROWS, span]
    below += (plane(colour) - below) * cover[:, None]


def _sun(canvas: Canvas) -> None:
    light = canvas.light
    shine = 1.0 - smooth(light, 0.5, 0.72)
    if not bool((shine > 0.0).any()):
        return
    y = sun_height(light)
    dusk = smooth(light, 0.1, 0.45) * shine
    colour = palette.stops(light, palette.SUN)
    warm = palette.stops(light, palette.GLOW)
    wide = _halo(canvas, SUN_X, y, 86.0, 1.5) * plane(0.22 * shine + 0.3 * dusk)
    tight = _halo(canvas, SUN_X, y, 30.0) * plane(0.34 * shine + 0.16 * dusk)
    tight = tight + _halo(canvas, SUN_X, y, 14.0) * plane(0.45 * shine)
    _shine(canvas, plane(warm) * wide[:, None] + plane(colour) * tight[:, None])
    span = slice(int(SUN_X) - 14, int(SUN_X) + 14)
    disc = _disc(canvas, SUN_X, y, 6.5 + 3.0 * dusk, 0.6, span)
    _put(canvas, colour, disc * plane(shine), span)


def _moon(canvas: Canvas) -> None:
    rise = smooth(canvas.light, 0.56, 0.86)
    if not bool((rise > 0.0).any()):
        return
    y = moon_height(canvas.light)
    pale = palette.table(((0.75, 0.84, 1.0),), y.device)
    glow = _halo(canvas, MOON_X, y, 48.0) * plane(0.2 * rise)
    glow = glow + _halo(canvas, MOON_X, y, 17.0) * plane(0.3 * rise)
    _shine(canvas, plane(pale) * glow[:, None])
    span = slice(int(MOON_X) - 12, int(MOON_X) + 12)
    radius = torch.full_like(y, 7.5)
    full = _disc(canvas, MOON_X, y, radius, 0.6, span)
    shade = _disc(canvas, MOON_X - 4.5, y - 2.5, radius - 0.8, 0.3, span)
    ivory = palette.table(((0.97, 0.96, 0.88),), y.device)
    # The side in the dark has a little light from the earth, and hides the stars.
    _put(canvas, canvas.sky[:, 1] * 0.6 + 0.25, full * plane(rise), span)
    _put(canvas, ivory, full * (1.0 - 0.85 * shade) * plane(rise), span)


def _shine(canvas: Canvas, light: Tensor) -> None:
    """Let light ``(P, 3, rows, W)`` shine through the air without glare."""
    below = canvas.image[:, :, :ROWS]
    below += (1.0 - below) * light


def _stars(canvas: Canvas, size: int = 15) -> None:
    glow = smooth(canvas.light, 0.6, 0.92)
    if not bool((glow > 0.0).any()):
        return
    bottom = 66
    x, y = canvas.columns()[0] * (1.0 / size), canvas.rows(0, bottom)[0, :, 0] * (1.0 / size)
    cell_x, cell_y = x.floor().to(torch.int64), y.floor().to(torch.int64)
    wide, tall = -(-WIDTH // size), -(-bottom // size)
    cell = torch.arange(wide * tall, device=x.device)[None]

    def spread(channel: int) -> Tensor:
        grid = roll(cell, canvas.salt, channel).view(-1, tall, wide)
        return grid[:, cell_y][:, :, cell_x]

    # Stars keep clear of the rims of their cells, so that each cell needs only its own.
    across = (x - cell_x)[None, None, :] - 0.2 - 0.6 * spread(1)
    down = (y - cell_y)[None, :, None] - 0.2 - 0.6 * spread(2)
    bright = (spread(3) - 0.4).clamp(min=0.0) * 1.7
    spot = (-(across * across + down * down) * (size * size / 1.5)).exp() * bright
    fade = 1.0 - smooth(canvas.rows(0, bottom), 30.0, 64.0)
    white = palette.table(((0.95, 0.97, 1.0),), x.device)
    canvas.add(white, spot * fade * plane(glow), 0, bottom)


def _clouds(canvas: Canvas) -> None:
    """Two rows of clouds: heaps above, long thin banks near the horizon."""
    drift = canvas.columns() + canvas.time[:, None] * CLOUD_DRIFT
    lit = palette.at_dawn(palette.CLOUD_LIT, palette.DAWN_CLOUD, canvas.dawn)
    lit = palette.stops(canvas.light, lit)
    dark = palette.stops(canvas.light, palette.CLOUD_SHADE)
    _banks(canvas, drift * 0.6, lit, dark)
    _heaps(canvas, drift, lit, dark)


def _heaps(canvas: Canvas, v: Tensor, lit: Tensor, dark: Tensor, size: float = 104.0) -> None:
    bottom = 52
    rows = canvas.rows(0, bottom)
    cell = (v * (1.0 / size)).floor()
    body: Tensor | None = None
    base_row = torch.zeros_like(v)
    for step in (-1.0, 0.0, 1.0):
        home = cell + step
        there = roll(home, canvas.salt, 11) < 0.85
        middle = (home + 0.3 + 0.4 * roll(home, canvas.salt, 12)) * size
        base = 20.0 + 24.0 * roll(home, canvas.salt, 13)
        scale = torch.where(there, 0.7 + 0.6 * roll(home, canvas.salt, 14), 1e-3)
        lean = roll(home, canvas.salt, 15) - 0.5
        off = (v - middle) / scale
        for number, (x, tall, wide) in enumerate(PUFFS):
            lively = roll(home, canvas.salt, 16 + number)
            puff = tall * (0.55 + 0.9 * lively) * (1.0 + lean * (x * 0.03))
            across = (off - x) * (1.0 / wide)
            # A puff is a hill with a round top: its height above the base, in pixels.
            hill = (1.0 - across * across).clamp(min=0.0).sqrt() * (puff + 3.0) * scale
            if body is None:
                body, base_row = hill, base
            else:
                higher = hill > body
                base_row = torch.where(higher, base, base_row)
                body = torch.where(higher, hill, body)
    assert body is not None
    top = (base_row - body)[:, None, :]
    down = rows - top
    belly = base_row[:, None, :] + 2.0 - rows
    present = smooth(body, 0.5, 4.0)[:, None, :]
    cover = (down * 0.5 + 0.3).clamp(0.0, 1.0) * smooth(belly, -2.0, 3.0) * present
    depth = (down / (body[:, None, :] + 3.0)).clamp(0.0, 1.0)
    colour = plane(lit) + plane(dark - lit) * smooth(depth, 0.15, 1.0)[:, None]
    canvas.over(colour, cover * 0.86, 0, bottom)


def _banks(canvas: Canvas, v: Tensor, lit: Tensor, dark: Tensor, size: float = 120.0) -> None:
    top, bottom = 42, 68
    rows = canvas.rows(top, bottom)
    cell = (v * (1.0 / size)).floor()
    colour = plane(lit * 0.75 + dark * 0.25)
    for step in (-1.0, 0.0, 1.0):
        home = cell + step
        middle = (home + 0.2 + 0.6 * roll(home, canvas.salt, 21)) * size
        wide = 34.0 + 30.0 * roll(home, canvas.salt, 22)
        row = 50.0 + 10.0 * roll(home, canvas.salt, 23)
        across = ((v - middle) / wide)[:, None, :]
        down = (rows - row[:, None, :]) * (1.0 / 3.2)
        cover = (1.0 - across * across - down * down).clamp(min=0.0)
        canvas.over(colour, smooth(cover) * 0.55, top, bottom)
