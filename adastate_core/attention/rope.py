"""Rotate queries and keys by a number of frames, or by their place in the picture.

Rotary positions compose: a key written at index a and turned by b - a equals the key written
at b. Turning along time touches only the channels that turn with time, so spatial positions stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

Pairing = Literal["interleaved", "half"]
Frequencies = tuple[tuple[float, ...], ...]
"""Radians per step of every pair of a head; one row for all heads, or one for every head."""


@dataclass(frozen=True, slots=True)
class TemporalRotation:
    """Describe the rotary channels of a family that turn with time.

    Args:
        frequencies: Radians per latent frame of the leading pairs of a head; 0 for a pair that
            does not turn with time.
        pairing: Which channels form pair i of a head with D channels: `interleaved` 2i and
            2i + 1, `half` i and i + D / 2.
    """

    frequencies: Frequencies
    pairing: Pairing = "interleaved"

    def turn(self, x: Tensor, deltas: tuple[float, ...]) -> Tensor:
        """Turn every frame of `x` by its delta.

        Args:
            x: Queries or keys, (B, S, H, D), S = frames x tokens per frame, frames in order.
            deltas: Frames to turn by, one for every frame of `x`.

        Returns:
            `x` itself if nothing turns, else a new tensor of the same shape and dtype.
        """
        if not any(deltas):
            return x
        # Mostly it is the state alone that turns: what stays in place is copied only.
        frames = x.split(x.shape[1] // len(deltas), dim=1)
        parts: list[Tensor] = []
        for turns, run in groupby(zip(frames, deltas, strict=True), key=lambda pair: pair[1] != 0):
            kept, angles = zip(*run, strict=True)
            parts += [self._turned(torch.cat(kept, dim=1), angles)] if turns else kept
        return torch.cat(parts, dim=1)

    def _turned(self, x: Tensor, deltas: tuple[float, ...]) -> Tensor:
        # float64 angles: the product of index and frequency must not lose bits before cos/sin.
        rows = torch.tensor(self.frequencies, dtype=torch.float64)
        angles = torch.tensor(deltas, dtype=torch.float64)[:, None, None] * rows
        split = x.reshape(x.shape[0], len(deltas), -1, *x.shape[2:])
        return _rotated(split, angles[None, :, None], self.pairing).view(x.shape)


@dataclass(frozen=True, slots=True)
class SpatialRotation:
    """Describe how the rotary channels of a family turn with a token's row and column.

    Args:
        rows: Radians per row of tokens of the leading pairs of a head.
        columns: The same per column.
        pairing: Which channels form a pair, as in `TemporalRotation`.
        area: Tokens of the picture that `rows` and `columns` hold for, where a model stretches
            its positions over the same area at every size; None where it does not.
    """

    rows: Frequencies
    columns: Frequencies
    pairing: Pairing = "interleaved"
    area: float | None = None

    def turn(self, x: Tensor, width: int, direction: int) -> Tensor:
        """Turn every token of whole frames from the first place of a frame to its own, or back.

        Args:
            x: Keys, (B, S, H, D), S = frames x rows x `width`.
            width: Tokens of a row.
            direction: 1 to its own place, -1 back.
        """
        height = x.shape[1] // width
        stretch = math.sqrt(self.area / (height * width)) if self.area else 1.0
        steps = direction * stretch
        down = torch.arange(height, dtype=torch.float64)[:, None, None, None] * steps
        along = torch.arange(width, dtype=torch.float64)[None, :, None, None] * steps
        rows = torch.tensor(self.rows, dtype=torch.float64)
        columns = torch.tensor(self.columns, dtype=torch.float64)
        angles = (down * rows + along * columns).flatten(0, 1)
        return _rotated(x, angles[None], self.pairing)


def geometric(pairs: int, base: float) -> tuple[float, ...]:
    """Return the frequencies base^(-i / pairs) of an axis (Su et al. 2021)."""
    return tuple(base ** (-i / pairs) for i in range(pairs))


def axes(
    time: int, height: tuple[float, ...], width: tuple[float, ...]
) -> tuple[Frequencies, Frequencies]:
    """Lay out the pairs of a head as time | height | width.

    Args:
        time: Pairs of the temporal axis.
        height: Frequencies along the height.
        width: Frequencies along the width.

    Returns:
        Radians per row and per column of every pair.
    """
    rows = (0.0,) * time + height + (0.0,) * len(width)
    columns = (0.0,) * (time + len(height)) + width
    return (rows,), (columns,)


def _rotated(x: Tensor, angles: Tensor, pairing: Pairing) -> Tensor:
    """Turn the leading pairs of `x` (..., heads, channels) by angles (..., heads or 1, pairs)."""
    cos = torch.cos(angles).to(x.device, torch.float32)
    sin = torch.sin(angles).to(x.device, torch.float32)
    out = x.clone(memory_format=torch.contiguous_format)
    first, second = _pairs(pairing, angles.shape[-1], x.shape[-1])
    a, b = x[..., first].float(), x[..., second].float()
    out[..., first] = a * cos - b * sin
    out[..., second] = a * sin + b * cos
    return out


def _pairs(pairing: Pairing, count: int, channels: int) -> tuple[slice, slice]:
    if pairing == "interleaved":
        return slice(0, 2 * count, 2), slice(1, 2 * count, 2)
    half = channels // 2
    return slice(0, count), slice(half, half + count)
