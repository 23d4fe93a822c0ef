"""Tell the self-attentions of a model's layers from its other attention calls.

A host reports every attention call of a forward: self-attentions, cross-attentions, text
refiners. Most say in which block a call is made: then the layer is the one that is named, whatever
other nodes skip or repeat. Where a host names no blocks, their order is fixed and layers are
counted.
"""

from __future__ import annotations

from dataclasses import dataclass

BlockName = tuple[str | None, int]
"""What the host calls a block: its type, if it says one, and its number among those."""


@dataclass(frozen=True, slots=True)
class AttentionCalls:
    """The attention calls of one forward.

    Args:
        blocks: Types of block that the host names, with the number of the first layer of each.
            The first call in a block is its self-attention; calls in other blocks are none.
        per_block: Calls of a block, the self-attention first, where the host may not name it; None
            where it names every block.
    """

    blocks: tuple[tuple[str | None, int], ...] = (("double", 0),)
    per_block: int | None = None


class LayerCounter:
    """The layers of the self-attentions of one forward, named or counted.

    >>> counter = LayerCounter(AttentionCalls(per_block=2))  # self-attention, cross-attention
    >>> [counter.layer(block=None) for _ in range(4)]
    [0, None, 1, None]

    Args:
        calls: The attention calls of the model.
    """

    def __init__(self, calls: AttentionCalls) -> None:
        self._first = dict(calls.blocks)
        self._per_block = calls.per_block
        self._count = 0
        self._blocks: set[BlockName] = set()

    def enter(self, block: BlockName) -> None:
        """Note that a block is run, perhaps once more: its next call is its self-attention."""
        self._blocks.discard(block)

    def layer(self, block: BlockName | None) -> int | None:
        """Return the layer of the next attention call, or None if it is no self-attention.

        Args:
            block: What the host calls the block, None if it does not say.
        """
        if block is not None:
            if block in self._blocks or block[0] not in self._first:
                return None
            self._blocks.add(block)
            return self._first[block[0]] + block[1]
        if self._per_block is None:
            return None
        layer, place = divmod(self._count, self._per_block)
        self._count += 1
        return layer if place == 0 else None
