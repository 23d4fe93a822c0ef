"""Paints what grows: conifers and round trees, each at home in a cell of its layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama.canvas import Canvas, plane
from training.panorama.noise import smooth
from training.panorama.plots import Plots
from training.panorama.terrain import Layer


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of growth: where it is at home, how large it gets and how it is drawn."""

    # How likely a cell has one, and its size, by region of the ring.
    odds: tuple[float, ...]
    sizes: tuple[float, ...]
    # Cell, tallest height and top row that may be reached, by layer.
    middle: tuple[float, float, int]
    near: tuple[float, float, int]
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    channel: int
    brush: Callable[[Tensor, Tensor, Tensor, Layer], tuple[Tensor, Tensor, Tensor]]


def paint_growth(canvas: Canvas, layer: Layer) -> None:
    for kind in KINDS:
        _paint(canvas, layer, kind)


def _paint(canvas: Canvas, layer: Layer, kind: Kind) -> None:
    size, tallest, top = kind.middle if layer.index == 1 else kind.near
    bottom = int(layer.base) - 3
    plots = Plots.under(canvas, layer, size)
    channel = kind.channel + layer.channel
    middle = (plots.number + 0.5 + 0.5 * (plots.roll(channel) - 0.5)) * size
    shares, ground = plots.ground(layer, middle)
    odd, grown = torch.zeros_like(middle), torch.zeros_like(middle)
    for share, chance, part in zip(shares, kind.odds, kind.sizes, strict=True):
        odd, grown = odd + share * chance, grown + share * part
    there = smooth(odd - plots.roll(channel + 1), 0.0, 0.12)
    if not bool((there > 0.0).any()):
        return
    tall = tallest * grown * (0.55 + 0.45 * plots.roll(channel + 2)) * there
    tone, shown = plots.roll(channel + 3), smooth(tall, 2.0, 5.0)
    rows = canvas.rows(top, bottom)
    total: Tensor | None = None
    for step in (-1, 0, 1):
        foot = plots.spread(ground, step)[:, None] + 2.0
        off = plots.v - plots.spread(middle, step)
        height = plots.spread(tall, step).clamp(min=1.0)
        cover, side, low = kind.brush(off[:, None], rows - foot, height[:, None], layer)
        cover = cover * plots.spread(shown, step)[:, None] * (foot + 1.0 - rows).clamp(0.0, 1.0)
        hue = plots.spread(tone, step)[:, None]
        # What a tree is like is put over what is behind it; colours are mixed once, at the end.
        if total is None:
            total = cover
            sides, lows, tones = ((part + 0.0 * cover) for part in (side, low, hue))
            continue
        sides += (side - sides) * cover
        lows += (low - lows) * cover
        tones += (hue - tones) * cover
        total = total + cover - total * cover
    assert total is not None
    _leaf(canvas, layer, kind, (total, sides, lows, tones), (top, bottom))


def _leaf(
    canvas: Canvas,
    layer: Layer,
    kind: Kind,
    maps: tuple[Tensor, Tensor, Tensor, Tensor],
    span: tuple[int, int],
) -> None:
    cover, side, low, tone = maps
    facing = (0.5 + 0.5 * side * plane(canvas.side)).clamp(0.0, 1.0)
    low = low.clamp(0.0, 1.0)
    start, end = (cover.new_tensor(rgb).reshape(1, 3, 1, 1) for rgb in kind.colours)
    body = start + (end - start) * tone[:, None]
    soft = (1.06 - 0.3 * low) * (0.78 + 0.22 * facing)
    light = plane(canvas.ambient) * soft[:, None] + plane(canvas.beam) * (facing * 1.7)[:, None]
    colour = body * light
    air = layer.haze[0] + (0.26 if layer.index == 1 else 0.07) * low
    colour += (plane(canvas.haze) - colour) * air[:, None]
    canvas.over(colour, cover, *span)


def _conifer(
    off: Tensor, down: Tensor, tall: Tensor, layer: Layer
) -> tuple[Tensor, Tensor, Tensor]:
    t = down / tall + 1.0
    part = t * (4.0 if layer.index == 2 else 3.0)
    part = part - part.floor()
    skirt = part * (1.0 - smooth(part, 0.8, 1.0))
    half = (tall * 0.25) * (0.06 + t * 0.72 + 0.26 * skirt * (0.3 + t))
    cover = (half - off.abs() + 0.5).clamp(0.0, 1.0) * (down + tall + 0.2).clamp(0.0, 1.0)
    return cover, off / half.clamp(min=1.0), t


def _round(off: Tensor, down: Tensor, tall: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    radius = tall * 0.46
    down = down + tall * 0.62
    far = (off * off + down * down * 0.86).sqrt()
    crown = (radius - far + 0.5).clamp(0.0, 1.0)
    trunk = (tall * 0.07 - off.abs() + 0.5).clamp(0.0, 1.0) * (down * 0.5).clamp(0.0, 1.0)
    part = 1.0 / radius.clamp(min=1.0)
    return (
        torch.maximum(crown, trunk * 0.9),
        (off - down * 0.9) * part * 0.8,
        0.4 + down * part * 0.4,
    )


def _low(off: Tensor, down: Tensor, tall: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """A bush or a boulder: half a ball, flat on the ground."""
    wide = tall * 1.15
    x, y = off / wide, (down + 1.0) / tall
    far = (x * x + y * y).sqrt()
    cover = ((1.0 - far) * tall + 0.5).clamp(0.0, 1.0)
    return cover, x * 0.9 - y * 0.4, 1.0 + y


def _cactus(off: Tensor, down: Tensor, tall: Tensor, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """A column with a round top and two arms that bend up."""
    thick = tall * 0.085 + 0.7
    x = off.abs()
    stem = (off * off + (down + tall - thick).clamp(max=0.0).square()).sqrt() - thick
    reach, arm = tall * 0.27, thick * 0.8
    # The right arm leaves the stem higher than the left one.
    low = torch.where(off > 0.0, tall * 0.45, tall * 0.32)
    end = low + tall * 0.30
    rise = (
        (x - reach).square() + ((-down - end).clamp(min=0.0) + (low + down).clamp(min=0.0)).square()
    ).sqrt() - arm
    bar = torch.maximum((down + low).abs() - arm, x - reach)
    distance = torch.minimum(stem, torch.minimum(rise, bar))
    return (0.5 - distance).clamp(0.0, 1.0), off / thick * 0.6, 1.0 + down / tall


KINDS = (
    Kind(
        odds=(0.0, 0.4, 0.30, 0.25, 0.12, 0.4),
        sizes=(0.7, 1.0, 1.0, 1.0, 0.7, 0.9),
        middle=(31.0, 3.0, 60),
        near=(37.0, 6.5, 70),
        colours=((0.30, 0.40, 0.20), (0.46, 0.46, 0.28)),
        channel=70,
        brush=_low,
    ),
    Kind(
        odds=(0.0, 0.0, 0.0, 0.0, 0.55, 0.0),
        sizes=(0.6, 0.6, 0.6, 0.6, 1.0, 0.6),
        middle=(43.0, 11.0, 52),
        near=(61.0, 26.0, 56),
        colours=((0.28, 0.40, 0.28), (0.36, 0.46, 0.32)),
        channel=80,
        brush=_cactus,
    ),
    Kind(
        odds=(0.0, 0.42, 0.0, 0.30, 0.0, 0.0),
        sizes=(0.7, 1.0, 0.8, 0.8, 0.7, 0.7),
        middle=(15.0, 9.0, 46),
        near=(27.0, 17.0, 58),
        colours=((0.24, 0.37, 0.17), (0.40, 0.47, 0.20)),
        channel=60,
        brush=_round,
    ),
    Kind(
        odds=(0.0, 0.10, 1.0, 0.0, 0.0, 0.42),
        sizes=(0.5, 0.6, 1.0, 0.5, 0.5, 0.66),
        middle=(9.0, 21.0, 36),
        near=(13.5, 44.0, 40),
        colours=((0.13, 0.25, 0.20), (0.19, 0.33, 0.21)),
        channel=40,
        brush=_conifer,
    ),
)
