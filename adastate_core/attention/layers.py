"""Tell the attention calls of a model's layers that see the past from its other ones.

A host reports every attention call of a forward: of the block to itself, of one track to another,
to text, in text refiners. Most hosts say in which block a call is made: then the layer is the one
that is named, whatever other nodes skip or repeat. Where a host names no blocks, their order is
fixed and calls are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

from ..layout import TrackName
from .rope import TemporalRope

BlockName = tuple[str | None, int]
"""What the host calls a block: its type, if it says one, and its number among those."""


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One attention call of a layer, and the tracks that it joins.

    Args:
        name: What tells it from the other calls of its layer.
        queries: Tracks of its queries, in the order of their tokens.
        keys: Tracks of its keys and values, likewise.
        rope: Rotary channels of the temporal axis; None for those of the model.
        in_space: Whether keys of the video are rotated by their place in the picture, too.
        width: Channels of its keys, all heads together; None for those of the model.
        heads: Its heads; None for those of the model.
    """

    name: str = "self"
    queries: tuple[TrackName, ...] = ("video",)
    keys: tuple[TrackName, ...] = ("video",)
    rope: TemporalRope | None = None
    in_space: bool = True
    width: int | None = None
    heads: int | None = None

    @property
    def past(self) -> tuple[TrackName, ...]:
        """Return the tracks whose keys and values enter the cache: text is given anew."""
        return tuple(track for track in self.keys if track != "text")


SELF = LayerCall()
"""The attention of a video to itself."""


def joint(*tracks: TrackName) -> LayerCall:
    """Return the attention of several tracks in one sequence, in the order of their tokens."""
    return LayerCall("self", tracks, tracks)


@dataclass(frozen=True, slots=True)
class AttentionCalls:
    """The attention calls of one forward.

    Args:
        blocks: Types of block that the host names, with the number of the first layer of each.
            Calls in other blocks see no past.
        per_block: Calls of a block, where the host may not name it; None where it names every
            block.
        of_block: The calls of a block in their order, None for one that sees no past; nor does any
            after these.
    """

    blocks: tuple[tuple[str | None, int], ...] = (("double", 0),)
    per_block: int | None = None
    of_block: tuple[LayerCall | None, ...] = (SELF,)

    @property
    def tracked(self) -> tuple[LayerCall, ...]:
        """Return the calls of a layer that see the past, in their order."""
        return tuple(call for call in self.of_block if call is not None)


class Place(NamedTuple):
    """The layer of an attention call, and which of its calls it is."""

    layer: int
    call: LayerCall


class LayerCounter:
    """The attention calls of one forward that see the past, named or counted.

    >>> counter = LayerCounter(AttentionCalls(per_block=2))  # self-attention, cross-attention
    >>> [place and place.layer for place in (counter.place(block=None) for _ in range(4))]
    [0, None, 1, None]

    Args:
        calls: The attention calls of the model.
        left_out: Returns the names of those that the forward leaves out of a layer; None where it
            leaves out none.
    """

    def __init__(
        self,
        calls: AttentionCalls,
        left_out: Callable[[int], Container[str]] | None = None,
    ) -> None:
        self._first, self._left_out = dict(calls.blocks), left_out
        self._per_block, self._of_block = calls.per_block, calls.of_block
        self._count = 0
        self._seen: dict[BlockName, int] = {}

    def mark(self) -> tuple[int, dict[BlockName, int]]:
        """Return where in the forward it is, for `restore`."""
        return self._count, dict(self._seen)

    def restore(self, mark: tuple[int, dict[BlockName, int]]) -> None:
        """Go back to a mark: what was run since is about to be run again.

        >>> counter = LayerCounter(AttentionCalls())
        >>> before = counter.mark()
        >>> counter.place((None, 0)), counter.place(("double", 0)) is not None
        (None, True)
        >>> counter.place(("double", 0)) is None
        True
        >>> counter.restore(before)
        >>> counter.place(("double", 0)) is not None
        True
        """
        self._count, seen = mark
        self._seen = dict(seen)

    def enter(self, block: BlockName) -> None:
        """Note that a block is run, perhaps once more: its next call is its first."""
        self._seen.pop(block, None)

    def place(self, block: BlockName | None) -> Place | None:
        """Return the place of the next attention call, or None if it sees no past.

        Args:
            block: What the host calls the block, None if it does not say.
        """
        if block is not None:
            if block[0] not in self._first:
                return None
            layer = self._first[block[0]] + block[1]
            number = self._next(layer, self._seen.get(block, 0))
            self._seen[block] = number + 1
        elif self._per_block is None:
            return None
        else:
            layer, number = divmod(self._count, self._per_block)
            made = self._next(layer, number)
            self._count += made + 1 - number
            if made >= self._per_block:  # nothing of this block is left
                self._count = (layer + 1) * self._per_block
                return self.place(None)
            number = made
        call = self._of_block[number] if number < len(self._of_block) else None
        return None if call is None else Place(layer, call)

    def _next(self, layer: int, number: int) -> int:
        """Return the number of the next call of a layer that the forward makes."""
        if self._left_out is None:
            return number
        left_out = self._left_out(layer)
        for call in self._of_block[number:]:
            if call is None or call.name not in left_out:
                break
            number += 1
        return number
