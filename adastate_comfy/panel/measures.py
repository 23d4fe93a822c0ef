"""How much a chunk moves, and how far its look is from that of the first one."""

from __future__ import annotations

import numpy as np

from .tiles import Pixels

Look = tuple[float, ...]
"""Mean and spread of each colour, from 0 to 1."""


def motion_of(frames: Pixels) -> float:
    """Return the mean difference of neighbouring frames, 0 to 1."""
    if len(frames) < 2:
        return 0.0
    values = frames.astype(np.float32)
    return round(float(np.abs(values[1:] - values[:-1]).mean()) / 255, 5)


def look_of(frames: Pixels) -> Look:
    """Return mean and spread of each colour."""
    values = frames.reshape(-1, frames.shape[-1]).astype(np.float32) / 255
    numbers = [*values.mean(axis=0), *values.std(axis=0)]
    return tuple(round(float(number), 5) for number in numbers)


def drift_of(look: Look, first: Look) -> float:
    """Return how far a look is from the first one: 0 is the same."""
    return round(float(np.abs(np.subtract(look, first)).mean()), 5)
