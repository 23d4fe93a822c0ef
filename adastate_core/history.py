"""Turn a stream's record into the steps that rebuild its attention cache.

Every step has a key: a digest of everything the cache depends on up to and including it. Equal
keys mean equal caches, so the pool can say how much of a stream it still has, and branches
that share a past share its keys and values.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor

from .config import StreamConfig
from .memory import given_blocks
from .record import (
    ChunkEntry,
    Conditions,
    FlushEntry,
    ResetEntry,
    ResetScope,
    RootEntry,
    newest_beginning,
)
from .state import StreamState


@dataclass(frozen=True, slots=True, repr=False)
class CommitStep:
    """Forward a clean block and write its keys and values.

    Args:
        key: History key after this step.
        config: Options to forward it under.
        state: Clean state latents, or None for a block of content only.
        content: Clean content latents; None if they are beyond the bounded history.
        conditions: Conditionings to forward it under; None with `content`.
        frame: Content frame of the stream at which it begins.
        weights: Digest of the weight patches it was recorded with; None for given latents.
        hold: Whether slot 0 stays as it is.
    """

    key: str
    config: StreamConfig
    state: Tensor | None = None
    content: Tensor | None = None
    conditions: Conditions | None = None
    frame: int = 0
    weights: str | None = None
    hold: bool = False

    @property
    def possible(self) -> bool:
        """Say whether the latents are still there."""
        return self.content is not None


@dataclass(frozen=True, slots=True)
class DropStep:
    """Drop frames from the cache: slot 0, and all but the newest window frames."""

    key: str
    anchor: bool
    window_kept: int


HistoryStep = CommitStep | DropStep

_ALL_FRAMES = 1 << 30
_RESETS: dict[ResetScope, tuple[bool, int]] = {
    "anchor": (True, _ALL_FRAMES),
    "window": (False, 0),
    "all": (True, 0),
}


def plan_history(
    state: StreamState, conditions: Conditions, config: StreamConfig, weights: str
) -> list[HistoryStep]:
    """List the steps that make the cache which the next chunk of a stream attends to.

    The first step always finds an empty cache.

    Args:
        state: The stream.
        conditions: Conditionings of the next chunk; given latents (start frames, the seed of a
            reset) are committed under those of the chunk that follows them.
        config: Options of the next chunk.
        weights: Digest of the weight patches in effect.
    """
    planner = _Planner(state, conditions, weights)
    entries = state.entries
    for position in range(newest_beginning(entries), len(entries)):
        entry = entries[position]
        if isinstance(entry, ChunkEntry):
            planner.add_chunk(entry)
        elif isinstance(entry, RootEntry):
            later = (e for e in entries[position:] if isinstance(e, ChunkEntry))
            planner.add_root(entry, next(later, None), config)
        elif isinstance(entry, ResetEntry):
            planner.add_drop(*_RESETS[entry.scope])
        elif isinstance(entry, FlushEntry):
            planner.add_drop(False, entry.frames)
    return planner.steps


class _Planner:
    """Append steps and chain their keys."""

    def __init__(self, state: StreamState, upcoming: Conditions, weights: str) -> None:
        self.steps: list[HistoryStep] = []
        self._state = state
        self._upcoming = upcoming
        self._key = _digest("empty", weights, str(upcoming.guided))

    def add_chunk(self, entry: ChunkEntry) -> None:
        self._chain(entry.latents, *self._texts(entry), _config_text(entry.config), str(entry.held))
        self.steps.append(
            CommitStep(
                key=self._key,
                config=entry.config,
                state=entry.state,
                content=entry.content,
                conditions=self._recorded(entry) if entry.content is not None else None,
                frame=entry.frame,
                weights=entry.weights,
                hold=entry.held,
            )
        )

    def add_root(self, entry: RootEntry, later: ChunkEntry | None, config: StreamConfig) -> None:
        """Commit given latents under what the chunk that follows them was made with."""
        recorded = later is not None and later.content is not None
        conditions = self._recorded(later) if later and recorded else self._upcoming
        config = later.config if later else config
        self._chain(entry.latents, str(entry.frame), *self._texts(later), _config_text(config))
        if entry.forgotten:
            self.steps.append(CommitStep(self._key, config))
            return
        after = self._key
        for i, block in enumerate(given_blocks(entry, config)):
            self._key = _digest(after, str(i))
            self.steps.append(
                CommitStep(
                    self._key,
                    config,
                    block.state,
                    block.content,
                    conditions,
                    block.frame,
                    hold=block.hold,
                )
            )
            if block.lone:
                self.add_drop(False, 0)
        # The same key whether the blocks are known or forgotten.
        self._key = after
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], key=after)

    def add_drop(self, anchor: bool, window_kept: int) -> None:
        self._chain("drop", str(anchor), str(window_kept))
        self.steps.append(DropStep(self._key, anchor, window_kept))

    def _chain(self, *parts: str) -> None:
        self._key = _digest(self._key, *parts)

    def _texts(self, entry: ChunkEntry | None) -> tuple[str, str]:
        """Return the digests of a chunk's conditionings, or of the next step's."""
        filled = self._upcoming.negative.digest if self._upcoming.negative else ""
        positive = entry.positive if entry else self._upcoming.positive.digest
        negative = (entry.negative if entry else None) or filled
        return positive, negative if self._upcoming.guided else ""

    def _recorded(self, entry: ChunkEntry) -> Conditions:
        """Return what a chunk was made with; a missing negative is filled from the next step."""
        recorded = self._state.conditionings
        negative = recorded[entry.negative] if entry.negative else self._upcoming.negative
        return Conditions(recorded[entry.positive], negative, guided=self._upcoming.guided)


@lru_cache(maxsize=64)
def _config_text(config: StreamConfig) -> str:
    return json.dumps(config.to_json(), sort_keys=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
