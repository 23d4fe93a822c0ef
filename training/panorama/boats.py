"""Paints sailing boats on the sea off the coast, each with its image in the water."""

from __future__ import annotations

import torch

from training.panorama import palette
from training.panorama.canvas import Canvas, plane
from training.panorama.noise import smooth
from training.panorama.plots import Plots
from training.panorama.terrain import MIDDLE

TOP, BOTTOM = 60, 96
SIZE = 84.0
# Between the far shore and the beach.
WATERLINE = 77.0
SAIL, HULL = (0.96, 0.94, 0.88), (0.36, 0.27, 0.24)


def paint_boats(canvas: Canvas) -> None:
    plots = Plots.under(canvas, MIDDLE, SIZE)
    middle = (plots.number + 0.3 + 0.4 * plots.roll(171)) * SIZE
    coast = palette.presence(middle * (1.0 / MIDDLE.speed), MIDDLE.soft)[0]
    there = torch.where(plots.roll(172) < 0.7, smooth(coast, 0.85, 1.0), 0.0)
    if not bool((there > 0.0).any()):
        return
    rows = canvas.rows(TOP, BOTTOM)
    line = WATERLINE + 5.0 * plots.roll(173)
    scale = (0.75 + 0.4 * plots.roll(174)) * (line - 66.0) * (1.0 / 11.0)
    off = (plots.v - plots.spread(middle))[:, None] / plots.spread(scale)[:, None]
    above = (plots.spread(line)[:, None] - rows) / plots.spread(scale)[:, None]
    shown = plots.spread(there)[:, None]
    up = above.abs()
    # The mainsail falls to the left of the mast, the jib to the right.
    main = torch.minimum((12.0 - up) * 0.5 - (-off), -off - 0.2)
    jib = torch.minimum((10.0 - up) * 0.34 - off, off - 0.6)
    sail = torch.maximum(main, jib)
    sail = (sail + 0.5).clamp(0.0, 1.0) * (up - 1.6).clamp(0.0, 1.0)
    hull = (5.4 + up * 0.8 - off.abs() + 0.5).clamp(0.0, 1.0) * (2.1 - up).clamp(0.0, 1.0)
    below = torch.where(above < 0.0, 0.34 * (1.0 + above * 0.06).clamp(0.0, 1.0), 1.0)
    light = canvas.ambient * 0.9 + canvas.beam * 0.8
    for rgb, cover in ((SAIL, sail), (HULL, hull)):
        colour = light * palette.table((rgb,), light.device)
        colour = colour + (canvas.haze - colour) * 0.14
        canvas.over(plane(colour.clamp(max=1.0)), cover * shown * below, TOP, BOTTOM)
