"""Every family: a chunk through the nodes over the same bare forwards, in turns."""

from __future__ import annotations

from typing import Any

import comfy.samplers

from tools.bench.models import SUBJECTS
from tools.bench.streams import BareForwards, Stream
from tools.bench.subject import Subject
from tools.bench.table import against, show
from tools.bench.timing import Pair, median, overhead
from tools.inprocess import Pack

STEPS = 2
WARM_UP = 2
"""Chunks until the window is full: the first sees nothing, the second is the first to commit."""
PAIRS = 7
TARGETS = {"wan 2.1": 1.05, "wan 2.2 5B": 1.05}
"""For the others there is a number but no goal."""


def measure(pack: Pack) -> dict[str, Any]:
    """Return the overhead of every family and the seconds behind it."""
    results = {}
    for name, subject in SUBJECTS.items():
        print(f"families: {name}", flush=True)
        results[name] = _overhead(pack, subject)
    return results


def report(results: dict[str, Any]) -> None:
    """Print a table."""
    rows = [
        (
            name,
            *against(result["overhead"], TARGETS.get(name)),
            f"{result['lowest']:.2f} to {result['highest']:.2f}",
            f"{result['forward_seconds']:.2f} s",
        )
        for name, result in results.items()
    ]
    heading = ("", "measured", "target", "", f"range of {PAIRS}", "bare forward")
    show("A chunk over the same bare forwards, by family", heading, *rows)


def _overhead(pack: Pack, subject: Subject) -> dict[str, float]:
    model = subject.build()
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)
    stream = Stream(pack, subject, model, sigmas)
    bare = BareForwards(subject, model, sigmas, stream.layers)
    stream.advance(WARM_UP)
    bare()
    pairs = [Pair.timed(stream.advance, bare) for _ in range(PAIRS)]
    return {
        "overhead": overhead(pairs),
        "lowest": min(pair.ratio for pair in pairs),
        "highest": max(pair.ratio for pair in pairs),
        "forward_seconds": median(pair.bare for pair in pairs) / len(sigmas),
    }
