"""Paints what people built: the town's houses with roofs, chimneys and windows lit at night."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama.canvas import Canvas, plane
from training.panorama.noise import roll, smooth
from training.panorama.scenery import TOWN
from training.panorama.terrain import Layer, along, height, regions

WALLS = ((0.90, 0.82, 0.68), (0.80, 0.68, 0.58), (0.72, 0.74, 0.72), (0.88, 0.76, 0.58))
ROOFS = ((0.52, 0.33, 0.28), (0.42, 0.36, 0.38), (0.34, 0.38, 0.44), (0.58, 0.42, 0.32))
LAMP = (1.0, 0.82, 0.46)


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the houses of a layer, in pixels."""

    cell: float
    half: float
    walls: tuple[float, float]
    roof: float
    window: tuple[float, float]
    pitch: tuple[float, float]
    odds: float
    top: int
    channel: int


PLANS = {
    "middle": Plan(18.0, 7.4, (9.0, 9.0), 6.5, (2.2, 2.8), (5.0, 6.0), 0.92, 36, 280),
    "near": Plan(35.0, 14.0, (15.0, 11.0), 10.0, (3.2, 4.4), (7.6, 9.0), 0.9, 48, 380),
}


def paint_houses(canvas: Canvas, layer: Layer) -> None:
    plan = PLANS[layer.name]
    v = along(canvas, layer)
    if not bool((regions(layer, v)[TOWN] > 0.25).any()):
        return
    salt, channel = canvas.salt, plan.channel
    cell = (v * (1.0 / plan.cell)).floor()
    rows = canvas.rows(plan.top)
    middle = (cell + 0.5 + 0.08 * (roll(cell, salt, channel) - 0.5)) * plan.cell
    shares = regions(layer, middle)
    there = roll(cell, salt, channel + 1) < plan.odds
    grown = torch.where(there, smooth(shares[TOWN], 0.3, 0.75), 0.0)
    half = plan.half * (0.78 + 0.22 * roll(cell, salt, channel + 2))
    walls = (plan.walls[0] + plan.walls[1] * roll(cell, salt, channel + 3)) * grown
    tower = roll(cell, salt, channel + 4) < (0.1 if layer.index == 1 else 0.0)
    half = torch.where(tower, half * 0.52, half)
    walls = torch.where(tower, walls * 1.45, walls)
    rise = torch.where(
        tower, plan.roof * 2.0, plan.roof * (0.8 + 0.4 * roll(cell, salt, channel + 5))
    )
    rise = rise * grown
    foot = layer.base - height(layer, middle, salt, shares) + 2.0
    off = (v - middle)[:, None]
    eaves = (foot - walls)[:, None]
    shown = smooth(grown, 0.1, 0.4)[:, None]

    # A chimney stands on the right half of the roof, behind it.
    pipe = (1.5 * plan.half / 10.0 - (off - half[:, None] * 0.45).abs() + 0.5).clamp(0.0, 1.0)
    tip = eaves - rise[:, None] * 1.12
    pipe = pipe * (rows - tip + 0.5).clamp(0.0, 1.0) * (eaves - rows).clamp(0.0, 1.0)
    pipe = torch.where(tower[:, None], 0.0, pipe)
    brick = _pick(roll(cell, salt, channel + 6) * 0.0, ROOFS)
    _paint(canvas, layer, brick, pipe * shown, torch.zeros_like(pipe), plan.top)

    wall = (half[:, None] - off.abs() + 0.5).clamp(0.0, 1.0) * (rows - eaves + 0.5).clamp(0.0, 1.0)
    wall = wall * (foot[:, None] + 1.0 - rows).clamp(0.0, 1.0) * shown
    tint = _pick(roll(cell, salt, channel + 7), WALLS)
    below = (rows - eaves) * (1.0 / plan.walls[0])
    _paint(
        canvas,
        layer,
        tint,
        wall,
        (off / plan.half) - 0.4 - 0.6 * (1.0 - below).clamp(0.0, 1.0).square(),
        plan.top,
    )
    _windows(canvas, layer, plan, cell, off, rows - eaves, half, wall)

    # A roof seen from its long side; a steep one over a tower.
    up = (eaves + 0.8 - rows) / rise.clamp(min=1.0)[:, None]
    slim = torch.where(tower, 1.0, 0.30 + 0.5 * roll(cell, salt, channel + 8))[:, None]
    edge = (half[:, None] + plan.half * 0.14) * (1.0 - slim * up)
    roof = (edge - off.abs() + 0.5).clamp(0.0, 1.0)
    roof = roof * (rows - (eaves - rise[:, None]) + 0.5).clamp(0.0, 1.0)
    roof = roof * (eaves + 1.3 - rows).clamp(0.0, 1.0) * shown
    slate = _pick(roll(cell, salt, channel + 9), ROOFS)
    _paint(canvas, layer, slate, roof, off / plan.half * 0.5 + 0.5 * up, plan.top)


def _windows(
    canvas: Canvas,
    layer: Layer,
    plan: Plan,
    cell: Tensor,
    off: Tensor,
    down: Tensor,
    half: Tensor,
    wall: Tensor,
) -> None:
    wide, tall = plan.window
    pitch_x, pitch_y = plan.pitch
    column = (off * (1.0 / pitch_x)).floor()
    floor = ((down - 1.0) * (1.0 / pitch_y)).floor()
    x = (off - (column + 0.5) * pitch_x).abs()
    y = (down - 1.0 - (floor + 0.5) * pitch_y).abs()
    pane = (wide * 0.5 - x + 0.5).clamp(0.0, 1.0) * (tall * 0.5 - y + 0.5).clamp(0.0, 1.0)
    room = smooth(half[:, None] - ((column + 0.5) * pitch_x).abs(), wide * 0.5, wide * 0.5 + 1.5)
    pane = pane * room * wall
    chance = roll(
        cell[:, None] * 37.0 + column * 5.0 + floor, canvas.salt[:, :, None], plan.channel + 10
    )
    lamp = canvas.light.new_tensor(LAMP)[None]
    lit = plane(canvas.night) * smooth(chance, 0.25, 0.35)
    glass = (canvas.sky[:, 0] * 0.35 + canvas.sky[:, 1] * 0.25) * 0.8
    colour = plane(glass) + (plane(lamp) - plane(glass)) * lit[:, None]
    air = 0.6 * layer.haze[0]
    colour = colour + (plane(canvas.haze) - colour) * (air * (1.0 - 0.7 * lit))[:, None]
    canvas.over(colour, pane, plan.top)


def _pick(chance: Tensor, colours: tuple[tuple[float, float, float], ...]) -> Tensor:
    table = chance.new_tensor(colours)
    return table[(chance * len(colours)).to(torch.int64)].movedim(-1, 1)


def _paint(
    canvas: Canvas, layer: Layer, tint: Tensor, cover: Tensor, side: Tensor, top: int
) -> None:
    facing = (0.5 + 0.5 * side * plane(canvas.side)).clamp(0.0, 1.0)
    body = tint[:, :, None]
    colour = body * plane(canvas.ambient) * (0.74 + 0.22 * facing)[:, None]
    colour = colour + body * plane(canvas.beam) * (facing * 1.1)[:, None]
    air = layer.haze[0] * 0.8
    colour = colour + (plane(canvas.haze) - colour) * air
    canvas.over(colour, cover, top)
