"""Tell the self-attentions of a model's layers from its other attention calls.

A host reports every attention call of a forward: self-attentions, cross-attentions, text
refiners. Their order is fixed, so a layer is known by counting, or by the name of the block that
some hosts give with the call.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionCalls:
    """Describe the order of attention calls in one forward.

    Args:
        named: Whether the host names the block of a call. Then the first call of a block is its
            self-attention, and calls without a name are none.
        per_block: Calls of a block where they are not named, the self-attention first.
    """

    named: bool = False
    per_block: int = 1


class LayerCounter:
    """Number the self-attentions of one forward.

    Args:
        calls: The order of calls.
    """

    def __init__(self, calls: AttentionCalls) -> None:
        self._calls = calls
        self._count = 0
        self._blocks: set[object] = set()

    def layer(self, block: object | None) -> int | None:
        """Return the layer of the next attention call, or None if it is no self-attention.

        Args:
            block: What the host calls the block, None if it does not say.
        """
        if self._calls.named:
            if block is None or block in self._blocks:
                return None
            self._blocks.add(block)
            return len(self._blocks) - 1
        layer, place = divmod(self._count, self._calls.per_block)
        self._count += 1
        return layer if place == 0 else None
