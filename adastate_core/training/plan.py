"""What every step of a training run does, drawn from the seed and the number of the step alone.

So a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from ..errors import ConfigError

MAX_STEPS = 1_000_000
"""Upper bound of the steps of a run."""
MAX_RANK = 1024
"""Upper bound of the rank of an adapter."""
_GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 are spread evenly, however many are taken."""
_WARM_UP, _COOL_DOWN = 20, 5
"""Reciprocal shares of the steps at either end in which the learning rate is lower."""
_LEAST_RATE = 0.05
"""Share of the learning rate that is left at the end."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The options of a training run.

    Args:
        steps: Steps in all, those of earlier parts of the run included.
        learning_rate: Highest learning rate.
        rank: Rank of the adapter.
        rollout_chunks: Chunks in a row that a step goes through.
        horizon_alpha: By how much more the last of them counts than the first; 0 counts all alike.
        own_past: Share of the steps, the last ones, in which the past is what the model makes.
        seed: Seed of all draws.

    Raises:
        ConfigError: If a value is out of range; names the input.
    """

    steps: int
    learning_rate: float = 1e-4
    rank: int = 16
    rollout_chunks: int = 4
    horizon_alpha: float = 2.0
    own_past: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        _require("steps", self.steps, 1, MAX_STEPS)
        _require("learning_rate", self.learning_rate, 1e-9, 1.0)
        _require("rank", self.rank, 1, MAX_RANK)
        _require("rollout_chunks", self.rollout_chunks, 2, 64)
        _require("horizon_alpha", self.horizon_alpha, 0.0, 100.0)
        _require("own_past", self.own_past, 0.0, 1.0)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: it rises, stays, and falls towards the end.

        >>> options = TrainingOptions(steps=100, learning_rate=1.0)
        >>> [round(options.rate(step), 2) for step in (0, 4, 50, 90, 99)]
        [0.2, 1.0, 1.0, 0.5, 0.05]
        """
        rising = (step + 1) / max(1, self.steps // _WARM_UP)
        falling = _COOL_DOWN * (1.0 - step / self.steps)
        return self.learning_rate * min(1.0, rising, max(falling, _LEAST_RATE))

    @property
    def first_own(self) -> int:
        """Return the first step in which the past is what the model makes."""
        return self.steps - round(self.own_past * self.steps)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step does.

    Args:
        clip: Number of the clip.
        first: Chunk of the clip at which it begins; the one before is given to the memory.
        weights: How much each chunk counts, 1 on average.
        levels: How far down the schedule the noise of each chunk is, 0 for noise alone to 1.
        starts: The same for the noise from which the model makes its own past.
        own_past: Whether it does.
        seed: Seed of the noise.
        past_seed: Seed of the noise of its own past.
    """

    clip: int
    first: int
    weights: tuple[float, ...]
    levels: tuple[float, ...]
    starts: tuple[float, ...]
    own_past: bool
    seed: int
    past_seed: int


def plan_step(options: TrainingOptions, step: int, chunks: tuple[int, ...]) -> StepPlan:
    """Plan a step.

    Args:
        options: The options of the run.
        step: Number of the step, from 0.
        chunks: Chunks of every clip.
    """
    round_, place = divmod(step, len(chunks))
    order = torch.randperm(len(chunks), generator=_source(options.seed, "clips", round_))
    clip = int(order[place])
    count = min(options.rollout_chunks, chunks[clip])
    source = _source(options.seed, "step", step)
    places = chunks[clip] - count + 1
    first = int(torch.randint(places, (), generator=source))
    starts = torch.rand(count, generator=source, dtype=torch.float64)
    offset = float(torch.rand((), generator=_source(options.seed, "levels", 0)))
    numbers = range(step * options.rollout_chunks, step * options.rollout_chunks + count)
    return StepPlan(
        clip=clip,
        first=first,
        weights=horizon_weights(count, options.horizon_alpha),
        levels=tuple((offset + number * _GOLDEN) % 1.0 for number in numbers),
        starts=tuple(starts.tolist()),
        own_past=step >= options.first_own,
        seed=derived(options.seed, "noise", step),
        past_seed=derived(options.seed, "past", step),
    )


def horizon_weights(chunks: int, alpha: float) -> tuple[float, ...]:
    """Return how much every chunk of a rollout counts: linearly more, 1 on average.

    >>> horizon_weights(3, 2.0)
    (0.5, 1.0, 1.5)
    """
    last = max(1, chunks - 1)
    raw = [1.0 + alpha * chunk / last for chunk in range(chunks)]
    mean = sum(raw) / chunks
    return tuple(weight / mean for weight in raw)


def derived(seed: int, purpose: str, number: int) -> int:
    """Derive the seed of one purpose of one step."""
    text = f"adastate-training:{seed}:{purpose}:{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def _source(seed: int, purpose: str, number: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derived(seed, purpose, number))


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(
            name,
            problem=f"{name} is {value:g}; it goes from {low:g} to {high:g}",
            seen=value,
            expected=f"{low:g} to {high:g}",
            remedy=f"change {name}",
        )
