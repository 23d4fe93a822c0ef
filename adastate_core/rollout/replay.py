"""Bring the KV cache of a stream up to date: the normal path and the replay are one.

A commit pass is lazy: the newest chunk's keys and values are written only when the next chunk
needs them. So every chunk first runs the commits that the pool lacks, normally one, after a
restart all of them. The positive and the negative conditioning are looked up separately: when
guidance is turned on in the middle of a stream, only the negative one is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..anchors import policy_for_block
from ..attention.block_attention import BlockAttention
from ..attention.commit_attention import CommitAttention
from ..attention.geometry import AttentionGeometry
from ..attention.kv_cache import KVCache, KVCachePool
from ..errors import ConfigError
from ..layout import CachedFrames
from ..stream.events import Conditions
from .latent_block import LatentBlock
from .noise import CommitNoise
from .replay_plan import CommitStep, EvictStep, ReplayPlan, ReplayStep


class CommitSession(Protocol):
    """An open sampling session of the host, as far as commits need it."""

    def commit(self, block: LatentBlock, view: BlockAttention) -> None:
        """Forward a clean block at noise 0, plainly, once under each of its conditionings."""
        ...


@runtime_checkable
class NoisedSession(CommitSession, Protocol):
    """A session that also serves options which ask for noise in a commit, or for prefilled text."""

    def commit_noised(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        """Do as `commit` does, with noise mixed into the block and at its level."""
        ...

    def prefill(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        """Do the same for the text that comes with a block."""
        ...


@dataclass(frozen=True, slots=True)
class MissingStep:
    """A step that the pool lacks.

    Args:
        step: What to do.
        keys: Keys of the caches it makes, by conditioning index; only the missing ones.
    """

    step: ReplayStep
    keys: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class SessionSteps:
    """Missing steps in a row that run in one session.

    Args:
        conditions: Conditionings of the session.
        steps: The steps, oldest first.
    """

    conditions: Conditions
    steps: tuple[MissingStep, ...]


class Replay:
    """The steps from the newest caches that are still there to the end of a stream.

    Args:
        plan: The steps that make the cache of the next chunk.
        pool: KV caches of this model.
        geometry: How the model orders, numbers and rotates tokens.
        weights: Digest of the weight patches in effect.
        conditionings: Indices of the conditionings that are needed.
        before: The replay of the chunk before, whose caches are still there even if the pool has
            lost them. A host may free memory between two chunks, and what was rebuilt then would
            be rebuilt in a session of the wrong prompt.
        keep_start: Whether what the first chunk of the run began from survives later ones.
    """

    def __init__(
        self,
        plan: ReplayPlan,
        pool: KVCachePool,
        geometry: AttentionGeometry,
        weights: str,
        conditionings: Sequence[int],
        before: Replay | None = None,
        *,
        keep_start: bool = True,
    ) -> None:
        self._pool, self._geometry, self._weights = pool, geometry, weights
        self._held: dict[str, KVCache] = {} if before is None else before._held
        # What the first chunk of a run began from survives a failure of a later one.
        self._kept: frozenset[str] | None = None
        if before is not None and keep_start:
            self._kept = frozenset(before._held) if before._kept is None else before._kept
        self._current: dict[int, tuple[str | None, KVCache]] = {}
        self.missing = self._searched(plan, conditionings)
        self._held = {key: kv for key, kv in self._current.values() if key is not None}

    @property
    def caches(self) -> dict[int, KVCache]:
        """Return the caches so far by conditioning index; once all has run, those of the chunk."""
        return {conditioning: kv for conditioning, (_, kv) in self._current.items()}

    @property
    def commits(self) -> int:
        """Count the blocks that have to be forwarded."""
        return sum(isinstance(missing.step, CommitStep) for missing in self.missing)

    def sessions(self, current: Conditions) -> list[SessionSteps]:
        """Group the missing steps by the session they need.

        Returns:
            Groups of steps, oldest first. The last one runs under `current`, and may be empty.
        """
        cut: list[tuple[Conditions, list[MissingStep]]] = []
        waiting: list[MissingStep] = []  # frames can be evicted in any session
        for missing in self.missing:
            waiting.append(missing)
            conditions = missing.step.conditions if isinstance(missing.step, CommitStep) else None
            if conditions is None:
                continue
            if not cut or not _same(cut[-1][0], conditions):
                cut.append((conditions, []))
            cut[-1][1].extend(waiting)
            waiting = []
        if not cut or not _same(cut[-1][0], current):
            cut.append((current, []))
        cut[-1][1].extend(waiting)
        return [SessionSteps(conditions, tuple(steps)) for conditions, steps in cut]

    def run(self, steps: Sequence[MissingStep], session: CommitSession) -> None:
        """Run missing steps, the oldest that are left."""
        for missing in steps:
            for conditioning in missing.keys:
                self._pool.evict_for(self._current[conditioning][0], self._needed())
            past = {index: self._current[index][1] for index in missing.keys}
            step = missing.step
            if isinstance(step, EvictStep):
                made = {index: _without(kv, step) for index, kv in past.items()}
            else:
                made = self._committed(step, past, session)
            for index, kv in made.items():
                key = missing.keys[index]
                parent = self._current[index][0]
                self._current[index] = (key, kv)
                self._pool.store(key, kv, parent, self._needed())
        self._held = {key: kv for key, kv in self._current.values() if key is not None}

    def _searched(self, plan: ReplayPlan, conditionings: Sequence[int]) -> tuple[MissingStep, ...]:
        """Find the newest cache of each conditioning; return the steps after it."""
        missing: list[MissingStep] = []
        wanted = list(conditionings)
        for step in reversed(plan):
            for index in wanted:
                found = self._find(step.keys[index])
                if found is not None:
                    self._current[index] = (step.keys[index], found)
            wanted = [index for index in wanted if index not in self._current]
            if not wanted:
                break
            if isinstance(step, CommitStep) and not step.possible:
                return self._after_forgotten(step, [m.step for m in missing], conditionings)
            missing.append(MissingStep(step, {index: step.keys[index] for index in wanted}))
        for index in wanted:
            self._current[index] = (None, self._empty())
        return tuple(reversed(missing))

    def _after_forgotten(
        self, forgotten: CommitStep, later: list[ReplayStep], conditionings: Sequence[int]
    ) -> tuple[MissingStep, ...]:
        """Plan what can be rebuilt without older latents, under keys of its own.

        An exact cache of one conditioning cannot be used with them, since it holds other frames.

        Args:
            forgotten: The step whose latents are beyond the bounded history.
            later: The steps after it, newest first.
            conditionings: Indices of the conditionings that are needed.
        """
        missing: list[MissingStep] = []
        wanted = list(conditionings)
        self._current.clear()
        for step in later:
            keys = {i: _rebuilt(step.keys[i], forgotten.keys[i]) for i in wanted}
            for index, key in keys.items():
                found = self._find(key)
                if found is not None:
                    self._current[index] = (key, found)
            wanted = [index for index in wanted if index not in self._current]
            if not wanted:
                break
            missing.append(MissingStep(step, {index: keys[index] for index in wanted}))
        for index in wanted:
            empty = self._empty()
            empty.approximate = True
            self._current[index] = (None, empty)
        return tuple(reversed(missing))

    def _committed(
        self, step: CommitStep, past: Mapping[int, KVCache], session: CommitSession
    ) -> dict[int, KVCache]:
        """Cache a clean block's keys and values: the commit pass."""
        assert step.content is not None  # no plan begins before a chunk without latents
        config = replace(step.config, chunk_frames=step.content.shape[2])
        policy, sound = policy_for_block(config, step.state is not None), self._sound_of(step)
        view = CommitAttention(
            config,
            policy,
            past,
            self._geometry,
            first_frame=step.frame,
            silent=sound is None,
            hold=step.hold,
        )
        block = LatentBlock.joined(step.state, step.content, sound)
        if config.commit_sigma:
            noise = CommitNoise.drawn(config.commit_sigma, *step.drawn, block, view.state_frames)
            with_noise(session).commit_noised(block, view, noise)
        else:
            session.commit(block, view)
        made = view.committed()
        otherwise = config.cache_precision != self._pool.kv_format.precision
        other_weights = step.weights not in (None, self._weights)
        for index, kv in made.items():
            kv.approximate = past[index].approximate or other_weights or otherwise
        return made

    def _sound_of(self, step: CommitStep) -> Tensor | None:
        """Return the sound of a block, zeros where a model cannot do without and none was given."""
        needed = self._geometry.needs_sound and step.sound is None
        if not needed or step.content is None or step.sound_shape is None:
            return step.sound
        clock, frames = self._geometry.clock, step.content.shape[2]
        assert clock is not None  # there is one wherever there is sound
        channels, rows = step.sound_shape
        ticks = clock.ticks_of(step.frame, frames)
        return step.content.new_zeros((step.content.shape[0], channels, ticks, rows))

    def _find(self, key: str) -> KVCache | None:
        return self._pool.find(key) or self._held.get(key)

    def _needed(self) -> set[str]:
        """Return the keys of what the step began from and of what it goes on with."""
        return {*(self._kept or ()), *(key for key, _ in self._current.values() if key is not None)}

    def _empty(self) -> KVCache:
        return KVCache.empty(self._pool.kv_format)


def with_noise(session: CommitSession) -> NoisedSession:
    """Return a session as one that can give a block noise.

    Raises:
        ConfigError: If it cannot.
    """
    if not isinstance(session, NoisedSession):
        raise ConfigError(
            "commit_sigma",
            problem="this host cannot commit with noise, nor prefill text",
            seen=type(session).__name__,
            expected="a session with commit_noised and prefill",
            remedy="set commit_sigma to 0 and text_sees to all",
        )
    return session


def _without(kv: KVCache, step: EvictStep) -> KVCache:
    """Return a cache without the frames that a step evicts."""
    cached = kv.cached
    anchor = () if step.anchor else cached.anchor
    window = cached.window[max(len(cached.window) - step.window_kept, 0) :]
    first, newest = len(anchor), cached.frames - len(window)
    sound = (*cached.sound[:first], *cached.sound[newest:])
    made = KVCache(CachedFrames(anchor, window, cached.committed, sound), kv.kv_format)
    made.approximate = kv.approximate
    kv.copy_frames(made)
    return made


def _rebuilt(key: str, forgotten: str) -> str:
    """Return the key of a cache that was rebuilt without what came before a forgotten step."""
    return hashlib.sha256(f"{key}\nrebuilt after {forgotten}".encode()).hexdigest()[:32]


def _same(a: Conditions, b: Conditions) -> bool:
    return _identity(a) == _identity(b)


def _identity(conditions: Conditions) -> tuple[str, str]:
    negative = conditions.negative if conditions.guided else None
    return conditions.positive.digest, negative.digest if negative else ""
