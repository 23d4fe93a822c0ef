"""Bring the attention cache of a stream up to date: the normal path and replay are one.

A commit pass is lazy: the newest chunk's keys and values are written only when the next chunk
needs them. So every step first runs the commits that the pool lacks, normally one, after a
restart all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from .anchors import policy_for_block
from .attention import BlockPass, BlockShape, BlockView
from .cache import KVPool, KVSet
from .history import CommitStep, DropStep, HistoryStep
from .layout import Occupancy
from .record import Conditions


class CommitSession(Protocol):
    """An open sampling session of the host, as far as commits need it."""

    def commit(self, block: Tensor, view: BlockView) -> None:
        """Forward a clean block once at noise 0."""
        ...


class Replayer:
    """Rebuild K/V sets from history steps.

    Args:
        pool: Sets of this model with these base weights.
        shape: How the model numbers and rotates frames.
        weights: Digest of the weight patches in effect.
    """

    def __init__(self, pool: KVPool, shape: BlockShape, weights: str) -> None:
        self._pool = pool
        self._shape = shape
        self._weights = weights
        self._pinned: str | None = None
        self._latest: tuple[str, KVSet] | None = None

    def pin(self, steps: list[HistoryStep]) -> None:
        """Spare the set at the end of `steps`, so that a failed run can be tried again."""
        self._pinned = steps[-1].key if steps else None

    def foreign_runs(
        self, steps: list[HistoryStep], current: Conditions
    ) -> list[tuple[Conditions, list[HistoryStep]]]:
        """List the commits that need a session of their own, under other conditionings.

        Returns:
            Pairs of conditionings and the steps up to the end of the run they serve, oldest
            first. What is left after the last pair can run under `current`.
        """
        _, done = self._warmest(steps)
        runs: list[tuple[Conditions, list[HistoryStep]]] = []
        for end, step in enumerate(steps[done:], start=done + 1):
            if isinstance(step, DropStep) or step.conditions is None:
                continue
            if runs and _same(runs[-1][0], step.conditions):
                runs.pop()
            runs.append((step.conditions, steps[:end]))
        if runs and _same(runs[-1][0], current):
            runs.pop()
        return runs

    def catch_up(self, steps: list[HistoryStep], session: CommitSession) -> KVSet:
        """Return the cache after `steps`, starting from the latest point the pool still has."""
        kv, done = self._warmest(steps)
        for position, step in enumerate(steps[done:], start=done):
            source = steps[position - 1].key if position else None
            self._pool.make_room(source, self._pinned)
            kv = self._dropped(kv, step) if isinstance(step, DropStep) else self._commit(
                step, kv, session
            )  # fmt: skip
            self._pool.store(step.key, kv, keep=self._pinned)
            self._latest = (step.key, kv)
        return kv

    def _warmest(self, steps: list[HistoryStep]) -> tuple[KVSet, int]:
        """Find the set to start from and how many steps it already covers."""
        for done in range(len(steps), 0, -1):
            step = steps[done - 1]
            found = self._find(step.key)
            if found is not None:
                return found, done
            if isinstance(step, CommitStep) and not step.possible:
                # Older latents are forgotten: what follows is all that can be rebuilt.
                forgotten = self._empty()
                forgotten.approximate = True
                return forgotten, done
        return self._empty(), 0

    def _empty(self) -> KVSet:
        return KVSet.empty(self._shape.tokens_per_frame, self._pool.packing)

    def _find(self, key: str) -> KVSet | None:
        """Look a set up, and hold on to it while this step runs.

        Opening a session may make the host free memory and the pool lose sets. What the plan of
        sessions was built on must still be there then, or chunks would be committed in the wrong
        session, under another prompt.
        """
        found = self._pool.find(key)
        if found is None and self._latest is not None and self._latest[0] == key:
            found = self._latest[1]
        if found is not None:
            self._latest = (key, found)
        return found

    def _commit(self, step: CommitStep, kv: KVSet, session: CommitSession) -> KVSet:
        """Write a clean block's keys and values: the commit pass."""
        assert step.content is not None  # _warmest never starts before a forgotten chunk
        config = replace(step.config, chunk_frames=step.content.shape[2])
        policy = policy_for_block(config, step.state is not None)
        view = BlockPass(
            config, policy, kv, self._shape, first_frame=step.frame, commit=True, hold=step.hold
        )
        parts = [step.content] if step.state is None else [step.state, step.content]
        # One memory layout, whatever the parts were cut from: the last bits depend on it.
        block = torch.cat(parts, dim=2).clone(memory_format=torch.contiguous_format)
        session.commit(block, view)
        made = view.committed()
        otherwise = config.cache_precision != self._pool.packing.precision
        other_weights = step.weights not in (None, self._weights)
        made.approximate = kv.approximate or other_weights or otherwise
        return made

    def _dropped(self, kv: KVSet, step: DropStep) -> KVSet:
        held = kv.occupancy
        anchor = () if step.anchor else held.anchor
        window = held.window[max(len(held.window) - step.window_kept, 0) :]
        made = KVSet(Occupancy(anchor, window, held.seen), kv.tokens_per_frame, kv.packing)
        made.approximate = kv.approximate
        kv.copy_frames(made)
        return made


def _same(a: Conditions, b: Conditions) -> bool:
    return _identity(a) == _identity(b)


def _identity(conditions: Conditions) -> tuple[str, str]:
    negative = conditions.negative if conditions.guided else None
    return conditions.positive.digest, negative.digest if negative else ""
