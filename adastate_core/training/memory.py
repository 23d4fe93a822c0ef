"""What training an adapter takes besides what a forward takes: counted before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_PARAMETER = 16
"""Bytes of a parameter of the adapter: itself, its gradient and two averages, each in float32."""


class LinearShape(NamedTuple):
    """How many numbers a linear layer reads and writes for every token."""

    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes of a training run.

    Args:
        weights: Weights of the model.
        adapter: The adapter with its gradients and its optimiser.
        caches: Keys and values of the past.
        activations: What a forward keeps for its gradients.
        with_checkpoints: The same with gradient checkpointing.
    """

    weights: int
    adapter: int
    caches: int
    activations: int
    with_checkpoints: int

    def total(self, *, checkpointing: bool) -> int:
        """Return the bytes in all."""
        kept = self.with_checkpoints if checkpointing else self.activations
        return self.weights + self.adapter + self.caches + kept


def adapter_parameters(layers: Iterable[LinearShape], rank: int) -> int:
    """Count the parameters of an adapter on some linear layers."""
    return sum(rank * (layer.reads + layer.writes) for layer in layers)


def plan_training(
    blocks: list[list[LinearShape]],
    *,
    rank: int,
    tokens: int,
    context: int,
    width: int,
    itemsize: int,
    weights: int,
    caches: int,
) -> TrainingMemory:
    """Estimate the bytes of a training run.

    A linear layer keeps what it reads, and what follows it keeps what it writes; attention keeps
    the keys and values of the past beside that.

    Args:
        blocks: The linear layers of every block of the model.
        rank: Rank of the adapter.
        tokens: Tokens of a chunk.
        context: Tokens of the past that it attends to.
        width: Channels of keys, all heads together.
        itemsize: Bytes of a number as the model computes.
        weights: Bytes of the weights.
        caches: Bytes of the keys and values of the past.
    """

    def kept(block: list[LinearShape]) -> int:
        of_layers = sum(layer.reads + layer.writes + rank for layer in block)
        return itemsize * (tokens * of_layers + 2 * (tokens + context) * width)

    of_blocks = [kept(block) for block in blocks]
    parameters = adapter_parameters((layer for block in blocks for layer in block), rank)
    inputs = len(blocks) * tokens * width * itemsize
    return TrainingMemory(
        weights=weights,
        adapter=_PARAMETER * parameters,
        caches=caches,
        activations=sum(of_blocks),
        with_checkpoints=inputs + max(of_blocks, default=0),
    )
