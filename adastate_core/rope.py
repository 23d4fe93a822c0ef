"""Rotate queries and keys along time by a number of frames.

Rotary positions compose: a key written at index a and turned by b - a equals the key written
at b. Only the channels that turn with time are touched, so spatial positions stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TemporalRotation:
    """Describe the rotary channels of a family that turn with time.

    The pairs are interleaved, (0, 1), (2, 3), ..., and the temporal ones come first.

    Args:
        frequencies: Radians per latent frame of each temporal pair.
    """

    frequencies: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Count the leading channels of a head that turn with time."""
        return 2 * len(self.frequencies)

    def turn(self, x: Tensor, deltas: tuple[int, ...]) -> Tensor:
        """Turn every frame of `x` by its delta.

        Args:
            x: Queries or keys, (B, S, H, D), S = frames x tokens per frame, frames in order.
            deltas: Frames to turn by, one for every frame of `x`.

        Returns:
            `x` itself if nothing turns, else a new tensor of the same shape and dtype.
        """
        if not any(deltas):
            return x
        batch, tokens, heads, _ = x.shape
        # float64 angles: the product of index and frequency must not lose bits before cos/sin.
        angles = torch.tensor(deltas, dtype=torch.float64)[:, None] * torch.tensor(
            self.frequencies, dtype=torch.float64
        )
        cos = torch.cos(angles).to(x.device, torch.float32)[None, :, None, None, :]
        sin = torch.sin(angles).to(x.device, torch.float32)[None, :, None, None, :]
        out = x.clone(memory_format=torch.contiguous_format)
        shape = (batch, len(deltas), tokens // len(deltas), heads, len(self.frequencies), 2)
        pairs = x[..., : self.channels].reshape(shape).float()
        target = out.view(batch, len(deltas), tokens // len(deltas), heads, -1)
        even, odd = pairs[..., 0], pairs[..., 1]
        target[..., 0 : self.channels : 2] = even * cos - odd * sin
        target[..., 1 : self.channels : 2] = even * sin + odd * cos
        return out
