"""RoPE: rotate queries and keys by a number of frames, or by their place in the image.

Rotary positions compose: a key projected at index a and rotated by b - a equals the key projected
at b. Rotating along time touches only the channels of the temporal axis, so spatial positions stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Pairing = Literal["interleaved", "half"]
Frequencies = tuple[tuple[float, ...], ...]
"""Radians per step of every pair of a head; one row for all heads, or one for every head."""


@dataclass(frozen=True, slots=True)
class TemporalRope:
    """The rotary channels of a model that belong to the temporal axis.

    >>> rope = TemporalRope((rope_frequencies(2, base=100.0),))
    >>> keys = torch.ones(1, 1, 1, 4)
    >>> rotated = rope.rotate(rope.rotate(keys, (5,)), (-2,))
    >>> torch.allclose(rotated, rope.rotate(keys, (3,)))
    True

    Args:
        frequencies: Radians per latent frame of the leading pairs of a head; 0 for a pair that
            has another axis.
        pairing: Which channels form pair i of a head with D channels: `interleaved` 2i and
            2i + 1, `half` i and i + D / 2.
    """

    frequencies: Frequencies
    pairing: Pairing = "interleaved"

    def rotate(self, x: Tensor, frame_offsets: tuple[float, ...]) -> Tensor:
        """Rotate every frame of `x` by its offset.

        Args:
            x: Queries or keys, (B, S, H, D), S = frames x tokens per frame, frames in order.
            frame_offsets: Frames to rotate by, one for every frame of `x`.

        Returns:
            `x` itself if nothing moves, else a new tensor of the same shape and dtype.
        """
        if not any(frame_offsets):
            return x
        # Mostly it is the state alone that moves: frames at either end that stay are copied only.
        moving = [position for position, offset in enumerate(frame_offsets) if offset]
        first, end = moving[0], moving[-1] + 1
        tokens = x.shape[1] // len(frame_offsets)
        rotated = self._rotated_frames(
            x[:, first * tokens : end * tokens], frame_offsets[first:end]
        )
        return torch.cat((x[:, : first * tokens], rotated, x[:, end * tokens :]), dim=1)

    def _rotated_frames(self, x: Tensor, frame_offsets: tuple[float, ...]) -> Tensor:
        # float64 angles: the product of index and frequency must not lose bits before cos/sin.
        rows = torch.tensor(self.frequencies, dtype=torch.float64)
        angles = torch.tensor(frame_offsets, dtype=torch.float64)[:, None, None] * rows
        frames = x.unflatten(1, (len(frame_offsets), -1))
        return _rotated(frames, angles[None, :, None], self.pairing).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class SpatialRope:
    """The rotary channels of a model that belong to a token's row and column.

    Args:
        rows: Radians per row of tokens of the leading pairs of a head.
        columns: The same per column.
        pairing: Which channels form a pair, as in `TemporalRope`.
        area: Tokens of the image for which `rows` and `columns` hold, where a model stretches its
            positions over the same area at every size; None where it does not.
    """

    rows: Frequencies
    columns: Frequencies
    pairing: Pairing = "interleaved"
    area: float | None = None

    def rotate(self, x: Tensor, width: int, *, inverse: bool = False) -> Tensor:
        """Rotate every token of whole frames from the first place of a frame to its own, or back.

        Args:
            x: Keys, (B, S, H, D), S = frames x rows x `width`.
            width: Tokens of a row.
            inverse: Whether to rotate back to the first place.
        """
        height = x.shape[1] // width
        stretch = math.sqrt(self.area / (height * width)) if self.area else 1.0
        steps = -stretch if inverse else stretch
        down = torch.arange(height, dtype=torch.float64)[:, None, None, None] * steps
        along = torch.arange(width, dtype=torch.float64)[None, :, None, None] * steps
        rows = torch.tensor(self.rows, dtype=torch.float64)
        columns = torch.tensor(self.columns, dtype=torch.float64)
        angles = (down * rows + along * columns).flatten(0, 1)
        return _rotated(x, angles[None], self.pairing)


def rope_frequencies(pairs: int, base: float) -> tuple[float, ...]:
    """Return the frequencies base^(-i / pairs) of an axis (Su et al. 2021)."""
    return tuple(base ** (-i / pairs) for i in range(pairs))


def spatial_frequencies(
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
    """Rotate the leading pairs of `x` (..., heads, channels) by angles (..., heads or 1, pairs)."""
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
