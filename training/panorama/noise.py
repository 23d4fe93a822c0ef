"""Noise that is a pure function of a whole number, so that a panorama has no period and no RNG.

A column of tensors goes through the module: ``salt`` is ``(P, 1)``, one number a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK = 0xFFFFFFFF


def roll(cell: Tensor, salt: Tensor, channel: int) -> Tensor:
    """Draw a number in [0, 1) for each whole number, always the same."""
    word = (cell.to(torch.int64) * 374761393 + salt * 668265263 + channel * 974634523) & MASK
    word = ((word ^ (word >> 15)) * 739982445) & MASK
    word = ((word ^ (word >> 12)) * 695872825) & MASK
    return ((word ^ (word >> 15)) & 0xFFFFFF).to(torch.float32) * (1.0 / 0x1000000)


def smooth(t: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Rise from 0 at ``low`` to 1 at ``high`` without a corner."""
    t = ((t - low) * (1.0 / (high - low))).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def wave(v: Tensor, length: float, salt: Tensor, channel: int) -> Tensor:
    """Noise in [0, 1] that swings about once every two lengths."""
    u = v * (1.0 / length)
    cell = u.floor()
    t = u - cell
    low, high = roll(cell, salt, channel), roll(cell + 1.0, salt, channel)
    return low + (high - low) * (t * t * t * (t * (t * 6.0 - 15.0) + 10.0))


def peaks(v: Tensor, length: float, salt: Tensor, channel: int, steep: float) -> Tensor:
    """Heights in [0, 1] of a row of tents, one in each length."""
    u = v * (1.0 / length)
    cell = u.floor()
    best = torch.zeros_like(u)
    for step in (-1.0, 0.0, 1.0):
        home = cell + step
        tall = 0.45 + 0.55 * roll(home, salt, channel)
        off = (u - home - 0.25 - 0.5 * roll(home, salt, channel + 1)).abs()
        lean = steep * (0.8 + 0.4 * roll(home, salt, channel + 2))
        best = torch.maximum(best, tall - off * lean)
    return best


def dunes(v: Tensor, length: float, salt: Tensor, channel: int) -> Tensor:
    """Heights in [0, 1] of dunes: a long windward side, a short lee, a keen crest."""
    u = v * (1.0 / length)
    # Bent time makes the lengths of dunes differ and never runs backwards.
    u = u + 0.35 * wave(v, length * 1.7, salt, channel)
    cell = u.floor()
    t = u - cell
    low, high = roll(cell, salt, channel + 1), roll(cell + 1.0, salt, channel + 1)
    floor = (low + (high - low) * t) * 0.3
    up = (t * (1.0 / 0.66)).clamp(max=1.0)
    down = ((1.0 - t) * (1.0 / 0.34)).clamp(max=1.0)
    up = up * up * (1.9 - 0.9 * up)
    down = down * down * (3.0 - 2.0 * down)
    tall = 0.55 + 0.45 * roll(cell, salt, channel + 2)
    return floor + (1.0 - 0.3) * tall * torch.minimum(up, down)
