"""Every family: a chunk through the nodes over the same bare forwards, in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.samplers

from tools.bench.models import SUBJECTS
from tools.bench.streams import BareForwards, Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import in_turns, median, overhead
from tools.inprocess import Pack

STEPS = 2
WARM_UP = 2
"""Chunks until the window is full: the first sees nothing, the second is the first to commit."""
TARGET = 1.05


@dataclass(frozen=True)
class Setting:
    """Families, and pairs of a chunk and its bare forwards for each."""

    families: tuple[str, ...] = tuple(SUBJECTS)
    pairs: int = 7


FULL, SMALL = Setting(), Setting(("wan 2.1",), pairs=1)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return the overhead of every family and the seconds behind it."""
    results = {}
    for name in setting.families:
        print(f"families: {name}", flush=True)
        results[name] = _overhead(pack, SUBJECTS[name], setting.pairs)
    return results


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measures beside their target."""
    return [
        Row(f"a chunk over bare forwards, {name}", each["overhead"], TARGET)
        for name, each in result.items()
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return how far the pairs agree."""
    return [
        f"{name}: pairs {each['lowest']:.2f} to {each['highest']:.2f}, a bare forward "
        f"{each['forward_seconds']:.2f} s"
        for name, each in result.items()
    ]


def _overhead(pack: Pack, subject: Subject, count: int) -> dict[str, float]:
    model = subject.build()
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)
    stream = Stream(pack, subject, model, sigmas)
    bare = BareForwards(subject, model, sigmas, stream.layers)
    stream.advance(WARM_UP)
    bare()
    pairs = in_turns(stream.advance, bare, count)
    return {
        "overhead": overhead(pairs),
        "lowest": min(pair.ratio for pair in pairs),
        "highest": max(pair.ratio for pair in pairs),
        "forward_seconds": median(pair.bare for pair in pairs) / len(sigmas),
    }
