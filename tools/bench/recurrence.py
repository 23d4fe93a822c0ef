"""A long stream of Wan: whether a chunk costs more the later it comes, and what it costs at all."""

from __future__ import annotations

from typing import Any

import torch

from tools.bench.models import SUBJECTS
from tools.bench.streams import BareForwards, Stream
from tools.bench.table import against, show
from tools.bench.timing import Pair, median, overhead, seconds
from tools.inprocess import Pack

SUBJECT = SUBJECTS["wan 2.1"]
SIGMAS = (1.0, 0.7, 0.0)
CHUNKS, WARM_UP = 53, 2
EARLY, LATE = range(3, 8), range(48, 53)
BETWEEN = range(10, 48, 5)
TARGETS = {"chunk50_over_5": 1.05, "overhead": 1.05}


def measure(pack: Pack) -> dict[str, Any]:
    """Return how a chunk's time grows, and the overhead over bare forwards along the stream."""
    print(f"recurrence: {CHUNKS} chunks", flush=True)
    model, sigmas = SUBJECT.build(), torch.tensor(SIGMAS)
    stream = Stream(pack, SUBJECT, model, sigmas)
    bare = BareForwards(SUBJECT, model, sigmas, stream.layers)
    stream.advance(WARM_UP)  # the first chunk attends to an empty cache and commits nothing
    bare()
    chunks: dict[int, float] = {}
    pairs = []
    for index in range(WARM_UP, CHUNKS):
        chunks[index] = seconds(stream.advance)
        if index in (*EARLY, *BETWEEN, *LATE):
            pairs.append(Pair(chunks[index], seconds(bare)))
    return {
        "chunk50_over_5": median(chunks[i] for i in LATE) / median(chunks[i] for i in EARLY),
        "overhead": overhead(pairs),
        "chunk_seconds": median(chunks.values()),
        "bare_seconds": median(pair.bare for pair in pairs),
        "setting": {"sigmas": SIGMAS, "chunks": CHUNKS, "pairs": len(pairs)},
    }


def report(result: dict[str, Any]) -> None:
    """Print a table."""
    rows = [(name, *against(result[name], target)) for name, target in TARGETS.items()]
    show("Along a stream of Wan 2.1", ("", "measured", "target", ""), *rows)
    print(f"One chunk {result['chunk_seconds']:.2f} s, bare {result['bare_seconds']:.2f} s.")
