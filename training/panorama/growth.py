"""Paints what grows: conifers and round trees, each at home in a cell of its layer."""

from __future__ import annotations

import torch
from torch import Tensor

from training.panorama.canvas import Canvas, plane
from training.panorama.noise import roll, smooth
from training.panorama.terrain import Layer, along, height, regions

# How likely a cell has a tree, and how tall it is, by region of the ring.
CONIFERS = ((0.0, 0.10, 1.0, 0.0, 0.0, 0.42), (0.5, 0.6, 1.0, 0.5, 0.5, 0.66))
ROUNDS = ((0.0, 0.42, 0.0, 0.30, 0.0, 0.0), (0.7, 1.0, 0.8, 0.8, 0.7, 0.7))
# Cell, tallest height and top row that may be reached, by layer.
CONIFER_SIZE = {"middle": (9.0, 21.0, 34), "near": (15.0, 42.0, 40)}
ROUND_SIZE = {"middle": (15.0, 9.0, 46), "near": (27.0, 17.0, 58)}


def paint_trees(canvas: Canvas, layer: Layer) -> None:
    _paint_kind(canvas, layer, ROUNDS, ROUND_SIZE[layer.name], 60, _round)
    _paint_kind(canvas, layer, CONIFERS, CONIFER_SIZE[layer.name], 40, _conifer)


def _paint_kind(canvas, layer, odds, size, channel, brush) -> None:  # type: ignore[no-untyped-def]
    cell_size, tallest, top = size
    v = along(canvas, layer)
    here = regions(layer, v)
    if not any(
        odd > 0 and bool((share > 0).any()) for odd, share in zip(odds[0], here, strict=True)
    ):
        return
    cell = (v * (1.0 / cell_size)).floor()
    channel = channel + layer.channel
    for step in (-1.0, 0.0, 1.0):
        home = cell + step
        salt = canvas.salt
        middle = (home + 0.5 + 0.5 * (roll(home, salt, channel) - 0.5)) * cell_size
        shares = regions(layer, middle)
        odd = sum(share * chance for share, chance in zip(shares, odds[0], strict=True))
        grown = sum(share * part for share, part in zip(shares, odds[1], strict=True))
        there = odd - roll(home, salt, channel + 1)
        tall = tallest * grown * (0.62 + 0.38 * roll(home, salt, channel + 2))
        tall = tall * smooth(there, 0.0, 0.12)
        foot = layer.base - height(layer, middle, salt, shares) + 2.0
        tone = roll(home, salt, channel + 3)
        brush(canvas, layer, top, v - middle, foot, tall, tone)


def _conifer(
    canvas: Canvas, layer: Layer, top: int, off: Tensor, foot: Tensor, tall: Tensor, tone: Tensor
) -> None:
    rows = canvas.rows(top)
    tip = (foot - tall)[:, None]
    down = rows - tip
    t = down / tall.clamp(min=1.0)[:, None]
    tiers = 4.0 if layer.index == 2 else 3.0
    part = t * tiers
    part = part - part.floor()
    skirt = part * (1.0 - smooth(part, 0.8, 1.0))
    half = (tall * 0.25)[:, None] * (0.06 + t * 0.72 + 0.26 * skirt * (0.3 + t))
    aside = off[:, None].abs()
    cover = (half - aside + 0.5).clamp(0.0, 1.0) * (down + 0.2).clamp(0.0, 1.0)
    cover = cover * smooth(tall, 2.0, 6.0)[:, None] * (foot[:, None] + 1.0 - rows).clamp(0.0, 1.0)
    side = off[:, None] / half.clamp(min=1.0)
    green = _tones(tone, (0.13, 0.25, 0.20), (0.19, 0.33, 0.21))
    _leaf(canvas, layer, green, side, t, cover, top)


def _round(
    canvas: Canvas, layer: Layer, top: int, off: Tensor, foot: Tensor, tall: Tensor, tone: Tensor
) -> None:
    rows = canvas.rows(top)
    radius = (tall * 0.46)[:, None]
    middle = (foot - tall * 0.62)[:, None]
    across, down = off[:, None], rows - middle
    far = (across * across + down * down * 0.86).sqrt()
    crown = (radius - far + 0.5).clamp(0.0, 1.0)
    trunk = (tall[:, None] * 0.07 - across.abs() + 0.5).clamp(0.0, 1.0) * (down * 0.5).clamp(
        0.0, 1.0
    )
    cover = torch.maximum(crown, trunk * 0.9) * smooth(tall, 2.0, 5.0)[:, None]
    cover = cover * (foot[:, None] + 1.0 - rows).clamp(0.0, 1.0)
    side = (across - down * 0.9) / radius.clamp(min=1.0) * 0.8
    green = _tones(tone, (0.24, 0.37, 0.17), (0.40, 0.47, 0.20))
    _leaf(canvas, layer, green, side, 0.4 + down / radius.clamp(min=1.0) * 0.4, cover, top)


def _tones(tone: Tensor, low: tuple[float, ...], high: tuple[float, ...]) -> Tensor:
    """Colours between two, ``(P, 3, W)``."""
    start, end = tone.new_tensor(low)[:, None], tone.new_tensor(high)[:, None]
    return start + (end - start) * tone[:, None]


def _leaf(
    canvas: Canvas, layer: Layer, green: Tensor, side: Tensor, t: Tensor, cover: Tensor, top: int
) -> None:
    facing = (0.5 + 0.5 * side * plane(canvas.side)).clamp(0.0, 1.0)
    dark = 1.06 - 0.3 * t.clamp(0.0, 1.0)
    body = green[:, :, None]
    colour = body * plane(canvas.ambient) * (dark * (0.78 + 0.22 * facing))[:, None]
    colour = colour + body * plane(canvas.beam) * (facing * 1.9)[:, None]
    air = layer.haze[0] * 1.0 + (0.26 if layer.index == 1 else 0.07) * t.clamp(0.0, 1.0)
    colour = colour + (plane(canvas.haze) - colour) * air[:, None]
    canvas.over(colour, cover, top)
