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

    @classmethod
    def timed(cls, ours: Callable[[], object], bare: Callable[[], object]) -> Pair:
        """Run both."""
        return cls(seconds(ours), seconds(bare))

    @property
    def ratio(self) -> float:
        """Return ours over the bare one."""
        return self.ours / self.bare


def overhead(pairs: Iterable[Pair]) -> float:
    """Return the median of the ratios within the pairs."""
    return median(pair.ratio for pair in pairs)
