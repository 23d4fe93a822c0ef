"""Whether the two hundredth chunk of a stream costs more than the fifth, and what it keeps.

The model is small, so that what Python does weighs more than it would with a real one, and the
history is bounded as Render Stream to Video bounds it. A long stream and short ones take turns, so
that both see the same load.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness import Measured, Pairs, Row, finished, pack, seconds
from benchmarks.models import wan
from benchmarks.streams import Stream

SIGMAS = (1.0, 0.0)
EARLY = range(3, 8)
"""Chunks of a short stream that stand for the fifth; then another one begins."""


@dataclass(frozen=True)
class Growth:
    """`late` is the chunk compared with the fifth, the middle one of so many pairs."""

    late: int = 200
    pairs: int = 25
    dim: int = 256
    layers: int = 2
    size: tuple[int, int] = (28, 28)
    dtype: str = "float32"
    target: float = 1.02

    def measure(self) -> Measured:
        """Return the ratio, and the seconds of the chunks on the way."""
        subject = wan(self.dim, self.layers, size=self.size, dtype=self.dtype)
        model, history = subject.build(), pack().part("adastate_comfy.video.render_history").HISTORY
        long, short = (Stream(subject, model, SIGMAS, history_chunks=history) for _ in range(2))
        begin = self.late - self.pairs // 2
        along = [seconds(partial(finished, long.advance)) for _ in range(begin)]
        pairs = Pairs()
        for index in range(self.pairs):
            if index % len(EARLY) == 0:
                short.restart()
                short.advance(EARLY.start)
            pairs.ours.append(seconds(partial(finished, long.advance)))
            pairs.bare.append(seconds(partial(finished, short.advance)))
        setting = {**vars(self), "sigmas": SIGMAS, "history_chunks": history}
        setting["early_chunks"] = list(EARLY)
        setting["late_chunks"] = [begin, begin + self.pairs - 1]
        details: dict[str, Any] = {"along_seconds": along + pairs.ours, "setting": setting}
        details |= pairs.details("chunk200_over_5", "late_seconds", "early_seconds")
        return Measured([Row(f"chunk {self.late} over chunk 5", pairs.ratio, self.target)], details)
