"""Paints what people built: the town's houses with roofs, chimneys and windows lit at night."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama import palette
from training.panorama.canvas import Canvas, plane
from training.panorama.noise import roll, smooth
from training.panorama.plots import Plots
from training.panorama.scenery import TOWN
from training.panorama.terrain import Layer

WALLS = ((0.90, 0.82, 0.68), (0.80, 0.68, 0.58), (0.77, 0.74, 0.69), (0.88, 0.76, 0.58))
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
    bottom: int
    channel: int


PLANS = {
    "middle": Plan(18.0, 7.4, (9.0, 9.0), 6.5, (2.2, 2.8), (5.0, 6.0), 0.92, 36, 84, 280),
    "near": Plan(35.0, 14.0, (15.0, 11.0), 10.0, (3.2, 4.4), (7.6, 9.0), 0.9, 48, 103, 380),
}


def paint_houses(canvas: Canvas, layer: Layer) -> None:
    plan = PLANS[layer.name]
    plots = Plots.under(canvas, layer, plan.cell)
    channel = plan.channel
    middle = (plots.number + 0.5 + 0.08 * (plots.roll(channel) - 0.5)) * plan.cell
    shares, ground = plots.ground(layer, middle)
    there = plots.roll(channel + 1) < plan.odds
    grown = torch.where(there, smooth(shares[TOWN], 0.3, 0.75), 0.0)
    if not bool((grown > 0.1).any()):
        return
    tower = plots.roll(channel + 4) < (0.1 if layer.index == 1 else 0.0)
    half = plan.half * (0.78 + 0.22 * plots.roll(channel + 2))
    half = torch.where(tower, half * 0.52, half)
    walls = (plan.walls[0] + plan.walls[1] * plots.roll(channel + 3)) * grown
    walls = torch.where(tower, walls * 1.45, walls)
    rise = plan.roof * (0.8 + 0.4 * plots.roll(channel + 5))
    rise = torch.where(tower, plan.roof * 2.0, rise) * grown
    slim = torch.where(tower, 1.0, 0.30 + 0.5 * plots.roll(channel + 8))
    foot = ground + 2.0
    tip = torch.where(tower, foot, foot - walls - rise * 1.12)

    def row(facts: Tensor) -> Tensor:
        return plots.spread(facts)[:, None]

    rows = canvas.rows(plan.top, plan.bottom)
    span = (plan.top, plan.bottom)
    off = plots.v[:, None] - row(middle)
    wide, eaves, shown = row(half), row(foot - walls), row(smooth(grown, 0.1, 0.4))

    # A chimney stands on the right half of the roof, behind it.
    pipe = (0.15 * plan.half - (off - wide * 0.45).abs() + 0.5).clamp(0.0, 1.0)
    pipe = pipe * (rows - row(tip) + 0.5).clamp(0.0, 1.0) * (eaves - rows).clamp(0.0, 1.0)
    brick = _pick(torch.zeros_like(middle), ROOFS, plots)
    _paint(canvas, layer, brick, pipe * shown, torch.zeros_like(pipe), span)

    wall = (wide - off.abs() + 0.5).clamp(0.0, 1.0) * (rows - eaves + 0.5).clamp(0.0, 1.0)
    wall = wall * (row(foot) + 1.0 - rows).clamp(0.0, 1.0) * shown
    # The eaves throw a shadow on the wall.
    shadow = (1.0 - (rows - eaves) * (1.0 / plan.walls[0])).clamp(0.0, 1.0).square()
    tint = _pick(plots.roll(channel + 7), WALLS, plots)
    _paint(canvas, layer, tint, wall, off / plan.half - 0.4 - 0.6 * shadow, span)
    _windows(canvas, layer, plots, off, rows - eaves, wide, row(walls), wall)

    # A roof seen from its long side; a steep one over a tower.
    up = (eaves + 0.8 - rows) / row(rise.clamp(min=1.0))
    edge = (wide + plan.half * 0.14) * (1.0 - row(slim) * up)
    roof = (edge - off.abs() + 0.5).clamp(0.0, 1.0)
    roof = roof * (rows - (eaves - row(rise)) + 0.5).clamp(0.0, 1.0)
    roof = roof * (eaves + 1.3 - rows).clamp(0.0, 1.0) * shown
    slate = _pick(plots.roll(channel + 9), ROOFS, plots)
    _paint(canvas, layer, slate, roof, off / plan.half * 0.5 + 0.5 * up, span)


def _windows(
    canvas: Canvas,
    layer: Layer,
    plots: Plots,
    off: Tensor,
    down: Tensor,
    half: Tensor,
    walls: Tensor,
    wall: Tensor,
) -> None:
    """Panes in a grid on the walls, as many as fit whole; most of them are lit at night."""
    plan = PLANS[layer.name]
    wide, tall = plan.window
    pitch_x, pitch_y = plan.pitch
    column = (off * (1.0 / pitch_x)).floor()
    floor = ((down - 1.0) * (1.0 / pitch_y)).floor()
    x = (off - (column + 0.5) * pitch_x).abs()
    y = (down - 1.0 - (floor + 0.5) * pitch_y).abs()
    pane = (wide * 0.5 - x + 0.5).clamp(0.0, 1.0) * (tall * 0.5 - y + 0.5).clamp(0.0, 1.0)
    room = smooth(half - ((column + 0.5) * pitch_x).abs(), wide * 0.5, wide * 0.5 + 1.5)
    storey = (walls - 2.0 - (floor + 0.5) * pitch_y - tall * 0.5).clamp(0.0, 1.0)
    pane = pane * room * storey * wall
    home = plots.spread(plots.number)[:, None]
    window = home * 37.0 + column * 5.0 + floor
    chance = roll(window, canvas.salt[:, :, None], plan.channel + 10)
    lamp = palette.table((LAMP,), off.device)
    lit = plane(canvas.night) * smooth(chance, 0.25, 0.35)
    glass = (canvas.sky[:, 0] * 0.35 + canvas.sky[:, 1] * 0.25) * 0.8
    colour = plane(glass) + (plane(lamp) - plane(glass)) * lit[:, None]
    air = 0.6 * layer.haze[0]
    colour = colour + (plane(canvas.haze) - colour) * (air * (1.0 - 0.7 * lit))[:, None]
    canvas.over(colour, pane, plan.top, plan.bottom)


def _pick(chance: Tensor, colours: tuple[tuple[float, float, float], ...], plots: Plots) -> Tensor:
    """One of some colours for each plot, as columns ``(P, 3, 1, W)``."""
    table = palette.table(colours, chance.device)
    which = plots.spread((chance * len(colours)).to(torch.int64))
    return table[which].movedim(-1, 1)[:, :, None]


def _paint(
    canvas: Canvas,
    layer: Layer,
    tint: Tensor,
    cover: Tensor,
    side: Tensor,
    span: tuple[int, int],
) -> None:
    facing = (0.5 + 0.5 * side * plane(canvas.side)).clamp(0.0, 1.0)
    light = plane(canvas.ambient) * (0.74 + 0.22 * facing)[:, None]
    light = light + plane(canvas.beam) * (facing * 1.1)[:, None]
    colour = tint * light
    colour = colour + (plane(canvas.haze) - colour) * (layer.haze[0] * 0.8)
    canvas.over(colour, cover, *span)
