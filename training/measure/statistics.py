"""Intervals by bootstrap over prompts, paired between rows, and the Frechet distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ROUNDS, SEED = 2000, 0
LEVELS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


Key = TypeVar("Key", str, tuple[str, int])


def averaged(values: Sequence[float], keys: Sequence[Key]) -> dict[Key, float]:
    """Average the values of each prompt, or stream; what is not a number does not count."""
    found: dict[Key, list[float]] = {}
    for value, key in zip(values, keys, strict=True):
        if np.isfinite(value):
            found.setdefault(key, []).append(value)
    return {key: float(np.mean(those)) for key, those in found.items()}


def interval(values: dict[str, float]) -> Interval | None:
    """Mean over prompts with its interval; none without values."""
    if not values:
        return None
    data = np.array([values[prompt] for prompt in sorted(values)])
    picks = np.random.default_rng(SEED).integers(0, len(data), (ROUNDS, len(data)))
    low, high = np.percentile(data[picks].mean(1), LEVELS)
    return Interval(float(data.mean()), float(low), float(high))


def frechet(one: Array, other: Array) -> float:
    """Squared Frechet distance of Gaussians fitted to features ``(N, D)`` and ``(M, D)``.

    D. C. Dowson, B. V. Landau, "The Frechet distance between multivariate normal distributions",
    1982: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    Raises:
        ValueError: Fewer than two samples on a side.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"got {len(one)} and {len(other)} features, expected 2 or more of each")
    first, second = np.cov(one.T), np.cov(other.T)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    # The trace of the root of C1 C2 is that of a symmetric product, whose roots are real.
    inner = np.linalg.eigvalsh(root @ second @ root)
    mean = one.mean(0) - other.mean(0)
    spread = np.trace(first) + np.trace(second) - 2.0 * np.sqrt(np.clip(inner, 0.0, None)).sum()
    return float(mean @ mean + spread)


def frechet_interval(one: Array, other: Array, rounds: int = 200) -> Interval:
    """The distance with an interval over samples of ``one``, shifted by what resampling adds.

    A resampled set repeats samples, so its distance is too large by a bias that is about the same
    in all rounds: the interval is moved so that its middle is the distance itself.
    """
    rng = np.random.default_rng(SEED)
    exact = frechet(one, other)
    found = [frechet(one[rng.integers(0, len(one), len(one))], other) for _ in range(rounds)]
    low, high = np.percentile(found, LEVELS) - np.median(found)
    return Interval(exact, exact + float(low), exact + float(high))
