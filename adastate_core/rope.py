"""Rotate queries and keys along time by a number of frames.

Rotary positions compose: a key written at index a and turned by b - a equals the key written
at b. Only the channels that turn with time are touched, so spatial positions stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Pairing = Literal["interleaved", "half"]


@dataclass(frozen=True, slots=True)
class TemporalRotation:
    """Describe the rotary channels of a family that turn with time.

    Args:
        frequencies: Radians per latent frame of the leading pairs of a head; 0 for a pair that
            does not turn with time. One row for all heads, or one for every head.
        pairing: Which channels form pair i of a head with D channels: `interleaved` 2i and
            2i + 1, `half` i and i + D / 2.
    """

    frequencies: tuple[tuple[float, ...], ...]
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
        batch, tokens, heads, channels = x.shape
        # float64 angles: the product of index and frequency must not lose bits before cos/sin.
        rows = torch.tensor(self.frequencies, dtype=torch.float64)
        angles = torch.tensor(deltas, dtype=torch.float64)[:, None, None] * rows
        cos = torch.cos(angles).to(x.device, torch.float32)[None, :, None]
        sin = torch.sin(angles).to(x.device, torch.float32)[None, :, None]
        out = x.clone(memory_format=torch.contiguous_format)
        shape = (batch, len(deltas), tokens // len(deltas), heads, channels)
        source, target = x.reshape(shape), out.view(shape)
        first, second = self._pairs(channels)
        a, b = source[..., first].float(), source[..., second].float()
        target[..., first] = a * cos - b * sin
        target[..., second] = a * sin + b * cos
        return out

    def _pairs(self, channels: int) -> tuple[slice, slice]:
        count = len(self.frequencies[0])
        if self.pairing == "interleaved":
            return slice(0, 2 * count, 2), slice(1, 2 * count, 2)
        half = channels // 2
        return slice(0, count), slice(half, half + count)


def geometric(pairs: int, base: float) -> tuple[float, ...]:
    """Return the frequencies base^(-i / pairs) of an axis (Su et al. 2021)."""
    return tuple(base ** (-i / pairs) for i in range(pairs))
