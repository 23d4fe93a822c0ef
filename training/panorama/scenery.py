"""Paints the land, layer by layer: ground with its light and shade, snow, fields and haze."""

from __future__ import annotations

import torch
from torch import Tensor

from training.panorama import palette
from training.panorama.canvas import Canvas, plane
from training.panorama.journey import HEIGHT, WIDTH
from training.panorama.noise import roll, smooth, wave
from training.panorama.prompts import REGIONS
from training.panorama.terrain import Layer, along, height, regions

# Columns beside the picture that slanting shade may look up.
PAD = 40
# Rows that may show a layer: the one before it covers the rest.
SPANS = {"far": (14, 92), "middle": (46, 102), "near": (74, HEIGHT), "front": (86, HEIGHT)}
COAST, HILLS, FOREST, TOWN, DESERT, MOUNTAINS = range(6)


def paint_ground(canvas: Canvas, layer: Layer) -> None:
    top, bottom = SPANS[layer.name]
    v = along(canvas, layer, PAD)
    shares = regions(layer, v)
    crest = layer.base - height(layer, v, canvas.salt, shares)
    slope = (crest[:, 2:] - crest[:, :-2]) * 0.5
    inner = slice(PAD, PAD + WIDTH)
    crest, v = crest[:, inner], v[:, inner]
    shares = [share[:, inner] for share in shares]
    depth = canvas.rows(top, bottom) - crest[:, None]
    lean = (1.0 + slope[:, PAD - 1 : PAD - 1 + WIDTH].square()).rsqrt()
    cover = (depth * lean[:, None] + 0.5).clamp(0.0, 1.0)

    ground = _blend(shares, [palette.GROUND[name][layer.index] for name in REGIONS])
    if layer.name == "front":
        ground = ground * 0.86
    # Positive where the ground falls to the right, towards the sun.
    facing = ((slope[:, PAD - 1 : PAD - 1 + WIDTH] * 2.0).clamp(-1.0, 1.0) * 0.35)[:, None]
    keen = shares[DESERT] + shares[MOUNTAINS] * (1.0 if layer.index < 2 else 0.4)
    if bool((keen > 0.0).any()):
        faces = _shear(slope, depth, 0.45, PAD - 1)
        facing = facing + ((faces * 3.5).clamp(-1.0, 1.0) - facing) * keen[:, None]
    side = plane(canvas.side)
    fade = 0.35 + 0.65 * (-depth.clamp(min=0.0) * (1.0 / 16.0)).exp()
    lit = (0.42 + facing * side * fade * 0.55).clamp(0.0, 1.0)
    rim = (-depth.clamp(min=0.0) * (1.0 / 2.6)).exp() * (0.35 if layer.index else 0.15)
    albedo = ground[:, :, None].expand(-1, -1, depth.shape[1], -1)
    if layer.index == 2:
        patch = wave(along(canvas, layer, PAD)[:, 1:-1], 30.0, canvas.salt, layer.channel + 92)
        mottle = _shear(patch, depth * 2.0, 0.45, PAD - 1) - 0.5
        albedo = albedo * (1.0 + 0.22 * mottle * smooth(depth, 0.0, 6.0))[:, None]
    if layer.index == 1 and bool((shares[HILLS] > 0).any()):
        albedo = albedo * _fields(canvas, v, depth, shares[HILLS])
    dark = 1.0 - 0.24 * (depth.clamp(min=0.0) * (1.0 / layer.foot)).clamp(max=1.0)
    shaded = albedo * (plane(canvas.ambient) * (dark * (0.72 + 0.28 * lit))[:, None])
    colour = shaded + albedo * (plane(canvas.beam) * (lit * 1.1 + rim)[:, None])
    if layer.index < 2 and bool((shares[MOUNTAINS] > 0).any()):
        snow = _snow(canvas, layer, crest, depth, faces, shares[MOUNTAINS])
        white = plane(canvas.ambient) * 0.86 + plane(canvas.beam) * 0.7 * lit[:, None]
        white = white * (0.8 + 0.28 * lit)[:, None]
        colour = colour + (white.clamp(max=1.0) - colour) * snow[:, None]
    canvas.over(_hazed(canvas, layer, colour, depth), cover, top, bottom)
    if layer.name == "near" and bool((shares[COAST] > 0.0).any()):
        _foam(canvas, v, depth, shares[COAST])


def _hazed(canvas: Canvas, layer: Layer, colour: Tensor, depth: Tensor) -> Tensor:
    crest, foot = layer.haze
    if foot == 0.0:
        return colour
    air = crest + (foot - crest) * smooth(depth, 0.0, layer.foot)
    return colour + (plane(canvas.haze) - colour) * air[:, None]


def _blend(shares: list[Tensor], colours: list[tuple[float, float, float]]) -> Tensor:
    """Colours of regions at places ``(P, W)`` as ``(P, 3, W)``."""
    total: Tensor | None = None
    for share, colour in zip(shares, colours, strict=True):
        part = share[:, None] * share.new_tensor(colour)[:, None]
        total = part if total is None else total + part
    assert total is not None
    return total


def _shear(profile: Tensor, depth: Tensor, slant: float, pad: int) -> Tensor:
    """Carry a profile ``(P, W + 2 pad)`` down into the ground along slanting lines."""
    columns = torch.arange(WIDTH, device=depth.device, dtype=torch.float32)
    at = columns + pad + (depth * slant).clamp(-1.0, pad - 2.0)
    low = at.floor()
    part = at - low
    index = low.to(torch.int64).flatten(1)
    left = profile.gather(1, index).view_as(depth)
    right = profile.gather(1, index + 1).view_as(depth)
    return left + (right - left) * part


def _fields(canvas: Canvas, v: Tensor, depth: Tensor, share: Tensor) -> Tensor:
    """Tints of fields on the slopes ``(P, 3, rows, W)``: a patchwork with soft seams."""
    u = (v[:, None] + depth * 1.1) * (1.0 / 38.0)
    w = depth * (1.0 / 11.0)
    cell_u, cell_w = u.floor(), w.floor()
    tone = roll(cell_u + 101.0 * cell_w, canvas.salt[:, :, None], 91)
    edge_u = torch.minimum(u - cell_u, cell_u + 1.0 - u) * 38.0
    edge_w = torch.minimum(w - cell_w, cell_w + 1.0 - w) * 11.0
    inside = smooth(torch.minimum(edge_u, edge_w * 1.5), 0.0, 2.4)
    amount = inside * share[:, None] * smooth(depth, 1.0, 4.0)
    gold = depth.new_tensor((1.30, 1.06, 0.78)).reshape(1, 3, 1, 1) - 1.0
    fresh = depth.new_tensor((0.80, 0.97, 0.80)).reshape(1, 3, 1, 1) - 1.0
    warm = smooth(tone, 0.5, 0.9)
    cool = smooth(1.0 - tone, 0.5, 0.9)
    return 1.0 + gold * (warm * amount)[:, None] + fresh * (cool * amount)[:, None]


def _foam(canvas: Canvas, v: Tensor, depth: Tensor, share: Tensor) -> None:
    """A seam of foam where the sea runs out on the sand, and the wet sand below it."""
    swell = 1.2 * wave(v + canvas.time[:, None] * 0.3, 34.0, canvas.salt, 95)[:, None]
    at = depth + 0.2 + swell
    wet = smooth(at, 0.0, 1.5) * (1.0 - smooth(at, 2.0, 6.5)) * share[:, None] * 0.3
    span = SPANS["near"]
    canvas.over(
        plane(canvas.ambient) * plane(canvas.ambient.new_tensor([[0.5, 0.45, 0.38]])), wet, *span
    )
    foam = (-((at * (1.0 / 1.3)).square())).exp() * share[:, None] * 0.8
    white = canvas.ambient * 0.86 + canvas.beam * 0.5
    canvas.over(plane(white.clamp(max=1.0)), foam, *span)


def _snow(
    canvas: Canvas, layer: Layer, crest: Tensor, depth: Tensor, faces: Tensor, share: Tensor
) -> Tensor:
    line = 50.0 if layer.index == 0 else 62.0
    row = canvas.rows(*SPANS[layer.name])
    # Snow reaches lower on the shaded sides and in gullies.
    ragged = faces * 5.0 + 0.22 * (crest[:, None] - line)
    return smooth(line + ragged - row, -2.0, 4.0) * share[:, None]
