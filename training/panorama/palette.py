"""Owns the colours of the panorama: the air of each region from day over dusk to night.

Colours are display values in [0, 1]. A table of light has four stops: day, dusk, blue hour, night.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.panorama.noise import smooth
from training.panorama.prompts import REGION_LENGTH, REGIONS

STOPS = (0.0, 0.5, 0.74, 1.0)

# Of each region: zenith, middle and horizon by day, then the same at dusk.
SKIES = {
    "coast": (
        ((0.29, 0.57, 0.84), (0.53, 0.78, 0.93), (0.89, 0.95, 0.94)),
        ((0.26, 0.27, 0.52), (0.72, 0.45, 0.58), (1.00, 0.74, 0.50)),
    ),
    "hills": (
        ((0.32, 0.60, 0.88), (0.61, 0.81, 0.93), (0.95, 0.95, 0.86)),
        ((0.30, 0.28, 0.51), (0.78, 0.49, 0.54), (1.00, 0.77, 0.49)),
    ),
    "forest": (
        ((0.34, 0.59, 0.76), (0.60, 0.78, 0.84), (0.88, 0.94, 0.88)),
        ((0.21, 0.28, 0.46), (0.58, 0.46, 0.54), (0.98, 0.72, 0.55)),
    ),
    "town": (
        ((0.37, 0.57, 0.83), (0.67, 0.79, 0.90), (0.98, 0.92, 0.84)),
        ((0.30, 0.25, 0.50), (0.77, 0.45, 0.55), (1.00, 0.69, 0.49)),
    ),
    "desert": (
        ((0.33, 0.58, 0.80), (0.70, 0.81, 0.84), (1.00, 0.91, 0.75)),
        ((0.34, 0.24, 0.46), (0.84, 0.45, 0.46), (1.00, 0.69, 0.42)),
    ),
    "mountains": (
        ((0.26, 0.49, 0.79), (0.48, 0.71, 0.92), (0.85, 0.92, 0.97)),
        ((0.23, 0.26, 0.54), (0.66, 0.47, 0.64), (1.00, 0.73, 0.61)),
    ),
}
BLUE_SKY = ((0.09, 0.13, 0.31), (0.24, 0.25, 0.47), (0.60, 0.45, 0.56))
NIGHT_SKY = ((0.03, 0.05, 0.15), (0.07, 0.12, 0.27), (0.18, 0.25, 0.41))
# How much of a region's own air, against the mean of its ring, is left in the dark.
KEEPS = 0.12
# What makes a dawn of a dusk: paler and fresher, in the same order as a sky.
DAWN_SKY = ((0.42, 0.60, 0.80), (0.84, 0.76, 0.82), (1.00, 0.87, 0.82))
DAWN = 0.55
DAWN_AMBIENT, DAWN_BEAM = (0.74, 0.70, 0.80), (0.36, 0.25, 0.17)
DAWN_CLOUD = (1.0, 0.84, 0.80)

# What falls on things: from everywhere, and on the sides that face the sun or the moon.
AMBIENT = ((0.98, 0.98, 0.97), (0.70, 0.57, 0.68), (0.36, 0.39, 0.58), (0.23, 0.29, 0.47))
BEAM = ((0.20, 0.18, 0.11), (0.46, 0.25, 0.10), (0.06, 0.06, 0.09), (0.09, 0.12, 0.18))
# The sun stands at the right, the moon at the left.
SIDE = (1.0, 1.0, -0.1, -1.0)
CLOUD_LIT = ((1.0, 0.99, 0.97), (1.0, 0.72, 0.56), (0.42, 0.39, 0.56), (0.20, 0.26, 0.42))
CLOUD_SHADE = ((0.72, 0.80, 0.89), (0.58, 0.41, 0.54), (0.24, 0.25, 0.44), (0.10, 0.15, 0.29))
GLOW = ((1.0, 0.95, 0.8), (1.0, 0.62, 0.3), (0.9, 0.5, 0.4), (0.0, 0.0, 0.0))
SUN = ((1.0, 0.97, 0.84), (1.0, 0.86, 0.60), (1.0, 0.70, 0.50), (1.0, 0.70, 0.50))

# Of each region: the ground of the far, the middle and the near layer, in daylight.
GROUND = {
    "coast": ((0.47, 0.57, 0.60), (0.56, 0.62, 0.42), (0.89, 0.79, 0.59)),
    "hills": ((0.43, 0.57, 0.50), (0.58, 0.67, 0.35), (0.43, 0.56, 0.25)),
    "forest": ((0.29, 0.44, 0.42), (0.27, 0.42, 0.31), (0.20, 0.31, 0.20)),
    "town": ((0.45, 0.55, 0.53), (0.53, 0.58, 0.40), (0.44, 0.50, 0.32)),
    "desert": ((0.76, 0.58, 0.50), (0.87, 0.72, 0.53), (0.84, 0.66, 0.46)),
    "mountains": ((0.40, 0.46, 0.58), (0.40, 0.45, 0.46), (0.37, 0.47, 0.31)),
}


def table(rows: object, device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32, device=device)


def stops(light: Tensor, rows: object) -> Tensor:
    """Look a table of light up.

    Args:
        light: ``(P,)`` from day to night.
        rows: Four stops of numbers or colours, or a tensor ``(P, 4, ...)``.

    Returns:
        ``(P, ...)``.
    """
    per_picture = rows if isinstance(rows, Tensor) else table(rows, light.device)[None]
    total = None
    edges = (-1.0, *STOPS, 2.0)
    for index in range(4):
        rise = (light - edges[index]) * (1.0 / (edges[index + 1] - edges[index]))
        fall = (edges[index + 2] - light) * (1.0 / (edges[index + 2] - edges[index + 1]))
        if index == 0:
            rise = torch.ones_like(rise)
        if index == 3:
            fall = torch.ones_like(fall)
        share = torch.minimum(rise, fall).clamp(0.0, 1.0)
        row = per_picture[:, index]
        part = share.reshape(-1, *(1,) * (row.ndim - 1)) * row
        total = part if total is None else total + part
    assert total is not None
    return total


def presence(where: Tensor, soft: float) -> list[Tensor]:
    """How much of each region is at a place, as many tensors as regions; they add up to 1.

    Args:
        where: Places in pixels of the near layer, any shape.
        soft: Width of the change from region to region, in the same pixels.
    """
    ring = where * (1.0 / REGION_LENGTH)
    half = soft / REGION_LENGTH / 2.0
    count = len(REGIONS)
    shares = []
    for index in range(count):
        off = (torch.remainder(ring - (index + 0.5) + count / 2.0, count) - count / 2.0).abs()
        shares.append(1.0 - smooth(off, 0.5 - half, 0.5 + half))
    return shares


def at_dawn(rows: object, colour: object, dawn: Tensor, amount: float = 1.0) -> Tensor:
    """Rows of light ``(P, 4, ...)`` whose dusk becomes a dawn where ``dawn (P,)`` is 1."""
    evening = rows if isinstance(rows, Tensor) else table(rows, dawn.device)[None]
    fresh = table(colour, dawn.device)
    share = (dawn * amount).reshape(-1, *(1,) * (evening.ndim - 2))
    mixed = evening[:, 1] + (fresh - evening[:, 1]) * share
    rest = evening.expand(len(dawn), *evening.shape[1:])
    return torch.cat((rest[:, :1], mixed[:, None], rest[:, 2:]), 1)


def sky(light: Tensor, here: Tensor, dawn: Tensor) -> Tensor:
    """Zenith, middle and horizon colours ``(P, 3, 3)`` under a light, given ``(P, 6)`` regions."""
    rows = table([SKIES[name] for name in REGIONS], light.device)
    mean = rows[:, 1].mean(0)
    own = rows[:, 1] - mean
    blue = table(BLUE_SKY, light.device) + KEEPS * own
    night = table(NIGHT_SKY, light.device) + KEEPS * 0.5 * own
    four = torch.stack((rows[:, 0], rows[:, 1], blue, night), 1)
    # A sum by hand: matrix products may round differently in other company.
    mixed = here[:, 0, None, None, None] * four[0]
    for index in range(1, len(REGIONS)):
        mixed = mixed + here[:, index, None, None, None] * four[index]
    return stops(light, at_dawn(mixed, DAWN_SKY, dawn, DAWN)).clamp(0.0, 1.0)
