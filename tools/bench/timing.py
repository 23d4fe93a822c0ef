"""Seconds, medians and pairs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def median(values: Iterable[float]) -> float:
    """Return the median, in which a moment of a busy machine does not show."""
    return statistics.median(list(values))


@dataclass(frozen=True)
class Pair:
    """Seconds of two things that ran one after the other, so under much the same load."""

    ours: float
    bare: float

    @property
    def ratio(self) -> float:
        """Return ours over the bare one."""
        return self.ours / self.bare


def in_turns(ours: Callable[[], object], bare: Callable[[], object], count: int) -> list[Pair]:
    """Run both so often, and swap who is first, so that neither always follows the other."""
    pairs = []
    for index in range(count):
        if index % 2:
            second = seconds(bare)
            pairs.append(Pair(seconds(ours), second))
        else:
            first = seconds(ours)
            pairs.append(Pair(first, seconds(bare)))
    return pairs


def overhead(pairs: Iterable[Pair]) -> float:
    """Return the median of the ratios within the pairs."""
    return median(pair.ratio for pair in pairs)
