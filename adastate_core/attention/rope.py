"""RoPE: rotate queries and keys by a number of frames, or by their place in the image.

Rotary positions compose: a key projected at index a and rotated by b - a equals the key projected
at b. Rotating along time touches only the channels of the temporal axis, so spatial positions stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Pairing = Literal["interleaved", "half"]
Frequencies = tuple[tuple[float, ...], ...]
"""Radians per step of every pair of a head; one row for all heads, or one for every head."""

_PAIR_AXIS: dict[Pairing, int] = {"interleaved": -1, "half": -2}
"""Axis of the two channels of a pair, once those of a head are laid out by pairs."""
_TABLES_KEPT = 64
"""Tables of a rope that are kept: a chunk takes a few, new ones where positions count the video."""


class RotationTables:
    """The cosines and sines of a rope's rotations, each built once for a device.

    Every layer of every step rotates. Tables are built by the processor, in float64, and a card
    waits for what is copied to it.

    >>> tables, built = RotationTables("half"), []
    >>> for _ in range(2):
    ...     cos, _ = tables.get("a", torch.device("cpu"), lambda: built.append(1) or torch.zeros(1))
    >>> len(built), cos.dtype
    (1, torch.float32)

    Args:
        pairing: Which channels form a pair, as in `TemporalRope`.
    """

    def __init__(self, pairing: Pairing) -> None:
        self._axis = _PAIR_AXIS[pairing]
        self._tables: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def get(
        self, key: Hashable, device: torch.device, angles: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and sines in float32, on a device, with an axis for the two of a pair.

        The sine is that by which the other one of the pair is multiplied: negative for the first.

        Args:
            key: What the angles depend on.
            device: Where the tables are to be.
            angles: Makes the angles, in float64 on the processor.
        """
        where = (key, device)
        found = self._tables.get(where)
        if found is None:
            # Whoever trains may take what a sampler has left here.
            with torch.inference_mode(False), torch.no_grad():
                turns = angles()
                cos, sin = torch.cos(turns).float(), torch.sin(turns).float()
                both = torch.stack((-sin, sin), dim=self._axis)
                found = cos.unsqueeze(self._axis).to(device), both.to(device)
            while len(self._tables) >= _TABLES_KEPT:
                del self._tables[next(iter(self._tables))]
            self._tables[where] = found
        return found


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
        channels: Channels in front of a head that are rotary (D); None for all of them.
    """

    frequencies: Frequencies
    pairing: Pairing = "interleaved"
    channels: int | None = None
    _tables: RotationTables = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tables", RotationTables(self.pairing))

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
        out = x.clone(memory_format=torch.contiguous_format)
        self.rotate_(out, frame_offsets)
        return out

    def rotate_(self, x: Tensor, frame_offsets: tuple[float, ...]) -> None:
        """Rotate in place; the arguments are those of `rotate`."""
        # Mostly it is the state alone that moves: frames at either end that stay are not read.
        moving = [position for position, offset in enumerate(frame_offsets) if offset]
        if not moving:
            return
        offsets = frame_offsets[moving[0] : moving[-1] + 1]

        def angles() -> Tensor:
            # float64: the product of index and frequency must not lose bits before cos/sin.
            rows = torch.tensor(self.frequencies, dtype=torch.float64)
            turns = torch.tensor(offsets, dtype=torch.float64)[:, None, None] * rows
            return turns[None, :, None]

        frames = x.unflatten(1, (len(frame_offsets), -1))[:, moving[0] : moving[-1] + 1]
        rotary = frames[..., : self.channels]
        _rotate(rotary, self._tables.get(offsets, x.device, angles), self.pairing)


@dataclass(frozen=True, slots=True)
class SpatialRope:
    """The rotary channels of a model that belong to a token's row and column.

    Args:
        rows: Radians per row of tokens of the leading pairs of a head.
        columns: The same per column.
        pairing: Which channels form a pair, as in `TemporalRope`.
        area: Tokens of the image for which `rows` and `columns` hold, where a model stretches its
            positions over the same area at every size; None where it does not.
        channels: Rotary channels in front of a head, as in `TemporalRope`.
    """

    rows: Frequencies
    columns: Frequencies
    pairing: Pairing = "interleaved"
    area: float | None = None
    channels: int | None = None
    _tables: RotationTables = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tables", RotationTables(self.pairing))

    def rotate(self, x: Tensor, width: int, *, inverse: bool = False) -> Tensor:
        """Rotate every token of whole frames from the first place of a frame to its own, or back.

        Args:
            x: Keys, (B, S, H, D), S = frames x rows x `width`.
            width: Tokens of a row.
            inverse: Whether to rotate back to the first place.
        """
        height = x.shape[1] // width

        def angles() -> Tensor:
            stretch = math.sqrt(self.area / (height * width)) if self.area else 1.0
            steps = -stretch if inverse else stretch
            down = torch.arange(height, dtype=torch.float64)[:, None, None, None] * steps
            along = torch.arange(width, dtype=torch.float64)[None, :, None, None] * steps
            rows = torch.tensor(self.rows, dtype=torch.float64)
            columns = torch.tensor(self.columns, dtype=torch.float64)
            return (down * rows + along * columns).flatten(0, 1)[None]

        out = x.clone(memory_format=torch.contiguous_format)
        turns = self._tables.get((height, width, inverse), x.device, angles)
        _rotate(out[..., : self.channels], turns, self.pairing)
        return out


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


def _rotate(x: Tensor, turns: tuple[Tensor, Tensor], pairing: Pairing) -> None:
    """Rotate the leading pairs of `x` (..., heads, channels) in place.

    A pair (a, b) becomes (a cos - b sin, b cos + a sin).

    Args:
        x: Queries or keys.
        turns: Cosines and sines as `RotationTables.get` returns them.
        pairing: Which channels form a pair.
    """
    cos, sin = turns
    axis, count = _PAIR_AXIS[pairing], cos.shape[-2 if pairing == "interleaved" else -1]
    if pairing == "interleaved":
        pairs = x[..., : 2 * count].unflatten(-1, (count, 2))
    else:
        pairs = x.unflatten(-1, (2, -1))[..., :count]
    # As few operations as there can be: every layer of every step rotates, and a frame is little
    # work. Two products and a sum, not one fused operation, which rounds otherwise.
    moved = pairs.float()
    pairs.copy_(moved * cos + moved.flip(axis) * sin)
