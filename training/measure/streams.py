"""Where streams of latents come from, and how they are kept so that a stopped run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from training.anchors.memory import ANCHORS
from training.anchors.runs import AVERAGE
from training.measure.clips import Pair, kept, name_of, write
from training.panorama.prompts import Prompt


class Source(Protocol):
    """Whatever makes streams; ``digest`` names the weights and all else that they depend on."""

    digest: str
    # Streams that are made at once at most.
    batch: int

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int) -> Tensor:
        """Make streams ``(N, 16, 3 chunks, 14, 24)`` of normalised latents."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: weights under the anchor that they were trained with.

    Args:
        name: Of the row; rows of one name are pooled.
        anchor: Policy of slot 0.
        weights: Where they are.
        adapter: A LoRA on them, as *Train State Adapter* makes it.
    """

    name: str
    anchor: str
    weights: Path | None = None
    adapter: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Row:
        """Read ``adaptive=WEIGHTS``, ``NAME:adaptive=WEIGHTS`` or ``adaptive=WEIGHTS,ADAPTER``.

        Raises:
            ValueError: It names no anchor.
        """
        head, _, paths = text.partition("=")
        name, _, anchor = head.rpartition(":")
        if anchor not in ANCHORS:
            raise ValueError(f"row {text!r} has the anchor {anchor!r}, expected one of {ANCHORS}")
        weights, _, adapter = paths.partition(",")
        return cls(
            name or anchor,
            anchor,
            Path(weights) if weights else None,
            Path(adapter) if adapter else None,
        )


class TrainedStreams:
    """Streams by training's own batched rollout, from a file of weights."""

    def __init__(self, row: Row, steps: int, cfg: float, batch: int) -> None:
        if row.weights is None:
            raise ValueError(f"row {row.name!r} names no file of weights, expected {row.name}=FILE")
        if row.adapter is not None:
            raise ValueError(
                f"row {row.name!r} names the adapter {row.adapter}, which only the nodes can take: "
                "add --through-nodes, and give the folder of an export as its weights"
            )
        self.row, self.steps, self.cfg, self.batch = row, steps, cfg, batch
        # Training keeps a run as a folder, of which its average is what streams.
        file = row.weights / AVERAGE if row.weights.is_dir() else row.weights
        told = hashlib.sha256(file.read_bytes())
        told.update(f"{row.anchor} {steps} {cfg}".encode())
        self.digest = told.hexdigest()[:16]

    def __call__(self, prompts: Sequence[Prompt], seeds: Sequence[int], chunks: int) -> Tensor:
        from training.anchors.streaming import Weights, stream

        weights = Weights.load(self.row.weights)
        content: Tensor = stream(
            weights, self.row.anchor, prompts, seeds, chunks, steps=self.steps, cfg=self.cfg
        )[0]
        return content


@dataclass(frozen=True, slots=True)
class Kept:
    """Streams on disk, one file each, beside what was measured of them."""

    folder: Path

    def path(self, source: Source, pair: Pair, chunks: int) -> Path:
        return self.folder / source.digest / f"{name_of(*pair)}-{chunks}.safetensors"

    def missing(self, source: Source, pairs: Sequence[Pair], chunks: int) -> list[list[Pair]]:
        """Return batches of what has to be made yet."""
        rest = [pair for pair in pairs if not self.path(source, pair, chunks).exists()]
        return [rest[i : i + source.batch] for i in range(0, len(rest), source.batch)]

    def make(self, source: Source, pairs: Sequence[Pair], chunks: int) -> None:
        """Make one batch of streams and write them.

        Raises:
            ValueError: The source gave another shape than was asked for.
        """
        content = source([prompt for prompt, _ in pairs], [seed for _, seed in pairs], chunks)
        if content.shape[:3] != (len(pairs), 16, 3 * chunks):
            raise ValueError(
                f"streams are {tuple(content.shape)}, expected ({len(pairs)}, 16, {3 * chunks}, "
                "h, w)"
            )
        (self.folder / source.digest).mkdir(parents=True, exist_ok=True)
        for pair, one in zip(pairs, content, strict=True):
            write(self.path(source, pair, chunks), {"latents": one})

    def load(self, source: Source, pair: Pair, chunks: int) -> Tensor:
        """Return a stream ``(16, 3 chunks, h, w)``; make it alone where it is missing."""

        def make(_: list[int]) -> Tensor:
            with torch.no_grad():
                return source([pair[0]], [pair[1]], chunks)

        return kept([self.path(source, pair, chunks)], make)[0]
