"""Turn a stream's record into the steps that rebuild its attention cache.

Every step has a key: a digest of everything the cache depends on up to and including it. Equal
keys mean equal caches, so the pool can say how much of a stream it still has, and branches
that share a past share its keys and values.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from .conditioning import tensor_digest
from .config import StreamConfig
from .state import (
    ChunkEntry,
    Conditions,
    FlushEntry,
    ResetEntry,
    ResetScope,
    RootEntry,
    StreamState,
)


@dataclass(frozen=True, slots=True, repr=False)
class CommitStep:
    """Forward a clean block and write its keys and values.

    Args:
        key: History key after this step.
        config: Options to forward it under.
        state: Clean state latents, or None for a block of content only.
        content: Clean content latents; None if they are beyond the bounded history.
        conditions: Conditionings to forward it under; None with `content`.
        weights: Digest of the weight patches it was recorded with; None for given latents.
        hold: Whether slot 0 stays as it is.
        from_empty: Whether the block sees an empty cache.
    """

    key: str
    config: StreamConfig
    state: Tensor | None = None
    content: Tensor | None = None
    conditions: Conditions | None = None
    weights: str | None = None
    hold: bool = False
    from_empty: bool = False

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

    Args:
        state: The stream.
        conditions: Conditionings of the next chunk; given latents (start frames, the seed of a
            reset) are committed under those of the chunk that follows them.
        config: Options of the next chunk.
        weights: Digest of the weight patches in effect.
    """
    planner = _Planner(state, conditions, _digest("empty", weights, str(conditions.guided)))
    entries = state.entries
    roots = [i for i, e in enumerate(entries) if _is_root(e)]
    start = roots[-1] if roots else 0
    for position in range(start, len(entries)):
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

    def __init__(self, state: StreamState, upcoming: Conditions, empty_key: str) -> None:
        self.steps: list[HistoryStep] = []
        self._state = state
        self._upcoming = upcoming
        self._empty_key = self._key = empty_key

    def add_chunk(self, entry: ChunkEntry) -> None:
        guided = self._upcoming.guided
        filled = self._upcoming.negative.digest if self._upcoming.negative else ""
        negative = (entry.negative or filled) if guided else ""
        self._chain(
            entry.latents, entry.positive, negative, _config_text(entry.config), str(entry.held)
        )
        self.steps.append(
            CommitStep(
                key=self._key,
                config=entry.config,
                state=entry.state,
                content=entry.content,
                conditions=self._recorded(entry) if entry.content is not None else None,
                weights=entry.weights,
                hold=entry.held,
                from_empty=not self.steps,
            )
        )

    def add_root(self, entry: RootEntry, later: ChunkEntry | None, config: StreamConfig) -> None:
        """Commit given latents in blocks counted from their end; the state comes with the last."""
        known = later if later is not None and later.content is not None else None
        conditions = self._recorded(known) if known else self._upcoming
        config = later.config if later else config
        blocks = _tail_blocks(entry.content, config) if entry.content is not None else []
        self._key = self._empty_key
        for i, block in enumerate(blocks):
            state = entry.state if i == len(blocks) - 1 and config.state_frames else None
            if state is not None:
                state = state[:, :, -config.state_frames :]
            self._chain(
                tensor_digest(block),
                tensor_digest(state) if state is not None else "",
                conditions.positive.digest,
                conditions.negative.digest if conditions.negative and conditions.guided else "",
                _config_text(config),
            )
            self.steps.append(
                CommitStep(self._key, config, state, block, conditions, from_empty=i == 0)
            )

    def add_drop(self, anchor: bool, window_kept: int) -> None:
        self._chain("drop", str(anchor), str(window_kept))
        self.steps.append(DropStep(self._key, anchor, window_kept))

    def _chain(self, *parts: str) -> None:
        self._key = _digest(self._key, *parts)

    def _recorded(self, entry: ChunkEntry) -> Conditions:
        """Return what a chunk was made with; a missing negative is filled from the next step."""
        recorded = self._state.conditionings
        negative = recorded[entry.negative] if entry.negative else self._upcoming.negative
        return Conditions(recorded[entry.positive], negative, guided=self._upcoming.guided)


def _is_root(entry: object) -> bool:
    return isinstance(entry, RootEntry) or entry == ResetEntry("all")


def _tail_blocks(content: Tensor, config: StreamConfig) -> list[Tensor]:
    """Cut the newest frames that slot 0 and the window can hold into blocks, oldest first."""
    size = config.chunk_frames
    wanted = config.window_frames + (config.anchor_frames if config.anchor == "frozen" else 0)
    ends = [content.shape[2] - size * i for i in range(max(1, -(-wanted // size)))]
    return [content[:, :, max(end - size, 0) : end] for end in reversed(ends) if end > 0]


@lru_cache(maxsize=64)
def _config_text(config: StreamConfig) -> str:
    return json.dumps(config.to_json(), sort_keys=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
