"""Whether the two hundredth chunk of a stream costs more than the fifth, and what it keeps.

The model is small, so that what Python does weighs more than it would with a real one, and the
history is bounded as Render Stream to Video bounds it. A long stream and short ones take turns, so
that both see the same load.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tools.bench.models import wan
from tools.bench.streams import Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import Pair, median, overhead, seconds
from tools.inprocess import Pack

SIGMAS = (1.0, 0.0)
EARLY = range(3, 8)
"""Chunks of a short stream that stand for the fifth; then another one begins."""
TARGET = 1.02


@dataclass(frozen=True)
class Setting:
    """`late` is the chunk compared with the fifth, the middle one of so many pairs."""

    late: int = 200
    pairs: int = 25
    dim: int = 256
    layers: int = 2
    size: tuple[int, int] = (28, 28)


FULL, SMALL = Setting(), Setting(late=12, pairs=5, dim=128, layers=1, size=(8, 8))


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return the ratio, and the seconds of the chunks on the way."""
    print(f"growth: {setting.late} chunks", flush=True)
    build = partial(wan, dim=setting.dim, layers=setting.layers)
    subject = Subject(build, 4096, size=setting.size)
    model, sigmas = subject.build(), torch.tensor(SIGMAS)
    history = pack.part("nodes.render").HISTORY
    long, short = (Stream(pack, subject, model, sigmas, history_chunks=history) for _ in range(2))
    begin = setting.late - setting.pairs // 2
    along = [seconds(long.advance) for _ in range(begin)]
    pairs, index = [], EARLY.stop
    for _ in range(setting.pairs):
        if index == EARLY.stop:
            short.restart()
            short.advance(EARLY.start)
            index = EARLY.start
        pairs.append(Pair(ours=seconds(long.advance), bare=seconds(short.advance)))
        index += 1
    along += [pair.ours for pair in pairs]
    return {
        "chunk200_over_5": overhead(pairs),
        "lowest": min(pair.ratio for pair in pairs),
        "highest": max(pair.ratio for pair in pairs),
        "early_seconds": median(pair.bare for pair in pairs),
        "late_seconds": median(pair.ours for pair in pairs),
        "along_seconds": along,
        "setting": {
            **vars(setting), "sigmas": SIGMAS, "history_chunks": history,
            "early_chunks": list(EARLY), "late_chunks": [begin, begin + setting.pairs - 1],
        },
    }  # fmt: skip


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measure beside its target."""
    late = result["setting"]["late"]
    return [Row(f"chunk {late} over chunk 5", result["chunk200_over_5"], TARGET)]


def notes(result: dict[str, Any]) -> list[str]:
    """Return what was compared with what."""
    early, late = (result["setting"][f"{name}_chunks"] for name in ("early", "late"))
    return [
        f"chunks {late[0]} to {late[-1]} of one stream in turns with chunks {early[0]} to "
        f"{early[-1]} of short ones: {result['late_seconds']:.3f} s, "
        f"{result['early_seconds']:.3f} s"
    ]
