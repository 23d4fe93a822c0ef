"""Turn a stream's events into the steps that rebuild its KV cache.

Every step has a key for each conditioning: a digest of everything that the keys and values depend
on up to and including it. Equal keys mean equal caches, so the pool can say how much of a stream it
still has, and branches that share a past share their keys and values. Steps are made from the
newest one backwards, because a stream that goes on needs the newest one only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from torch import Tensor

from ..config import StreamConfig
from ..stream.context import seed_blocks
from ..stream.events import (
    ChunkEvent,
    Conditions,
    FlushEvent,
    GivenLatentsEvent,
    ResetEvent,
    ResetScope,
    is_beginning,
)
from ..stream.state import StreamState

POSITIVE, NEGATIVE = 0, 1
"""Index of a conditioning, as hosts number them."""


@dataclass(frozen=True, slots=True, repr=False)
class CommitStep:
    """A clean block to forward, whose keys and values are kept.

    Args:
        keys: Keys after this step, by conditioning.
        config: Options to forward it under.
        state: Clean state latents, or None for a block of content only.
        content: Clean content latents; None if they are beyond the bounded history.
        conditions: Conditionings to forward it under; None with `content`.
        frame: Content frame of the stream at which it begins.
        weights: Digest of the weight patches it was made with; None for given latents.
        hold: Whether slot 0 stays as it is.
        sound: Clean sound of the content, or None.
        sound_shape: (C, R) of a latent of the stream's sound; None for a stream without.
        drawn: Seed and number by which the noise of the commit is drawn, see `CommitNoise`.
    """

    keys: tuple[str, ...]
    config: StreamConfig
    state: Tensor | None = None
    content: Tensor | None = None
    conditions: Conditions | None = None
    frame: int = 0
    weights: str | None = None
    hold: bool = False
    sound: Tensor | None = None
    sound_shape: tuple[int, int] | None = None
    drawn: tuple[int, int] = (0, 0)

    @property
    def key(self) -> str:
        """Return the key under the positive conditioning."""
        return self.keys[POSITIVE]

    @property
    def possible(self) -> bool:
        """Whether the latents are still there."""
        return self.content is not None


@dataclass(frozen=True, slots=True)
class EvictStep:
    """Frames to evict from the cache: slot 0, and all but the newest window frames."""

    keys: tuple[str, ...]
    anchor: bool
    window_kept: int

    @property
    def key(self) -> str:
        """Return the key under the positive conditioning."""
        return self.keys[POSITIVE]


ReplayStep = CommitStep | EvictStep

_ALL_FRAMES = 1 << 30
_RESETS: dict[ResetScope, tuple[bool, int]] = {
    "anchor": (True, _ALL_FRAMES),
    "window": (False, 0),
    "all": (True, 0),
}


class ReplayPlan(Sequence[ReplayStep]):
    """The steps that make the cache which the next chunk of a stream attends to.

    The first step always finds an empty cache. Only what is asked for is made; `reversed` begins
    with the newest step.

    Args:
        state: The stream.
        conditions: Conditionings of the next chunk; given latents (start frames, the seed of a
            reset) are committed under those of the chunk that follows them.
        config: Options of the next chunk.
        model: Digest of the model, with all that is on it.
    """

    def __init__(
        self, state: StreamState, conditions: Conditions, config: StreamConfig, model: str
    ) -> None:
        self._state, self._upcoming = state, conditions
        self._config, self._model = config, model

    def __reversed__(self) -> Iterator[ReplayStep]:
        events, later = self._state.events, None
        for position in range(len(events) - 1, -1, -1):
            event = events[position]
            if isinstance(event, ChunkEvent):
                yield self._chunk(position, event)
                later = event
            elif isinstance(event, GivenLatentsEvent):
                yield from reversed(self._given(position, event, later))
            elif isinstance(event, ResetEvent):
                yield EvictStep(self._keys(position, later), *_RESETS[event.scope])
            elif isinstance(event, FlushEvent):
                yield EvictStep(self._keys(position, later), False, event.frames)
            if is_beginning(event):
                return

    def __iter__(self) -> Iterator[ReplayStep]:
        return iter(list(reversed(self))[::-1])

    def __len__(self) -> int:
        return sum(1 for _ in reversed(self))

    @overload
    def __getitem__(self, position: int) -> ReplayStep: ...
    @overload
    def __getitem__(self, position: slice) -> list[ReplayStep]: ...
    def __getitem__(self, position: int | slice) -> ReplayStep | list[ReplayStep]:
        return list(self)[position]

    @property
    def newest(self) -> ReplayStep | None:
        """Return the newest step, or None if there is none."""
        return next(reversed(self), None)

    def _chunk(self, position: int, event: ChunkEvent) -> CommitStep:
        return CommitStep(
            keys=self._keys(position, None),
            config=event.config,
            state=event.state,
            content=event.content,
            conditions=self._conditions_of(event) if event.content is not None else None,
            frame=event.frame,
            weights=event.weights,
            hold=event.held,
            sound=event.sound,
            drawn=(event.seed, event.index),
        )

    def _given(
        self, position: int, event: GivenLatentsEvent, later: ChunkEvent | None
    ) -> list[ReplayStep]:
        """Commit given latents under what the chunk that follows them was made with."""
        keys = self._keys(position, later)
        config = later.config if later else self._config
        if event.forgotten:
            return [CommitStep(keys, config)]
        known = later is not None and later.content is not None
        conditions = self._conditions_of(later) if later and known else self._upcoming
        steps: list[ReplayStep] = []
        for block in seed_blocks(event, config, self._state.clock):
            # Of the blocks only the last has the key of the whole, whatever their number.
            of_block = tuple(_digest(key, str(len(steps))) for key in keys)
            commit = CommitStep(
                of_block,
                config,
                block.state,
                block.content,
                conditions,
                block.frame,
                hold=block.hold,
                sound=block.sound,
                sound_shape=self._state.sound_shape,
                drawn=(0, block.frame),
            )
            steps.append(commit)
            if block.lone:
                steps.append(EvictStep(of_block, False, 0))
        if steps:
            steps[-1] = replace(steps[-1], keys=keys)
        return steps

    def _keys(self, position: int, later: ChunkEvent | None) -> tuple[str, ...]:
        """Return the keys after an event.

        Args:
            position: Position of the event.
            later: The chunk after it, if it is known; else the next one is meant.
        """
        mark, upcoming = self._state.events.mark_at(position), self._upcoming
        positive = negative = config = ""
        if mark.pending:
            config = (later.config if later else self._config).text
            positive = later.positive if later else upcoming.positive.digest
            negative = (later.negative if later else None) or self._filled
        keys = [_digest(self._model, "positive", mark.past, mark.positive, positive, config)]
        if upcoming.guided:
            filled = self._filled if mark.fills else ""
            given = (mark.negative, filled, negative, config)
            keys.append(_digest(self._model, "negative", mark.past, *given))
        return tuple(keys)

    @property
    def _filled(self) -> str:
        """Return the negative of chunks that were made without one."""
        return self._upcoming.negative.digest if self._upcoming.negative else ""

    def _conditions_of(self, event: ChunkEvent) -> Conditions:
        """Return what a chunk was made with; a missing negative is filled from the next step."""
        known = self._state.conditionings
        negative = known[event.negative] if event.negative else self._upcoming.negative
        return Conditions(known[event.positive], negative, guided=self._upcoming.guided)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
