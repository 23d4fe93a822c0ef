"""A chunk through the nodes over the same bare forwards: of a wide Wan, and of every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.samplers

from benchmarks.harness import Measured, Pairs, Row, in_turns
from benchmarks.models import SUBJECTS, Subject, wan
from benchmarks.streams import WARM_UP, BareForwards, Stream

SIGMAS = (1.0, 0.0)
"""One step and the commit: the fewest forwards, so what happens once a chunk weighs most."""
STEPS = 2


@dataclass(frozen=True)
class Recurrence:
    """Two dtypes at a width where the products are what costs.

    `text_tokens` is to a block what 512 are to one of 480p.
    """

    dim: int = 1024
    layers: int = 4
    size: tuple[int, int] = (32, 64)
    text_tokens: int = 168
    pairs: int = 9

    def measure(self) -> Measured:
        """Return the overhead in every dtype, and the worst of them."""
        rows, dtypes = [], {}
        for dtype in ("float32", "bfloat16"):
            shape = partial(wan, self.dim, self.layers, size=self.size)
            subject = shape(text_tokens=self.text_tokens, dtype=dtype)
            pairs = _compare(subject, self.pairs, SIGMAS)
            rows.append(Row(f"a chunk over bare forwards, {dtype}", pairs.ratio, 1.03))
            dtypes[dtype] = pairs.details("overhead", "chunk_seconds", "bare_seconds")
            dtypes[dtype]["tokens_per_frame"] = subject.tokens_per_frame
        setting = {**vars(self), "sigmas": SIGMAS}
        worst = max(row.measured for row in rows)
        return Measured(rows, {"overhead": worst, "dtypes": dtypes, "setting": setting})


@dataclass(frozen=True)
class Families:
    """A small model of each family, two steps and the commit.

    Runs of a chunk each, as in a graph with a node for every chunk. Of models that prepare the text
    of a prompt, runs of several chunks as well.
    """

    families: tuple[str, ...] = tuple(SUBJECTS)
    pairs: int = 7
    together: int = 6

    def measure(self) -> Measured:
        """Return the overhead of every family and the seconds behind it."""
        rows: list[Row] = []
        details: dict[str, Any] = {}
        for name in self.families:
            subject = SUBJECTS[name]
            pairs = _compare(subject, self.pairs)
            rows.append(Row(f"a chunk over bare forwards, {name}", pairs.ratio, 1.05))
            details[name] = pairs.details("overhead", "chunk_seconds", "bare_seconds")
            details[name]["forward_seconds"] = details[name]["bare_seconds"] / (STEPS + 1)
            if subject.sound is not None:
                longer = _compare(subject, self.pairs, chunks=self.together)
                label = f"{self.together} chunks in a run over bare forwards, {name}"
                rows.append(Row(label, longer.ratio, 1.05))
                details[name]["together"] = longer.details(
                    "overhead", "run_seconds", "bare_seconds"
                )
        return Measured(rows, details)


def _compare(subject: Subject, count: int, sigmas: Sequence[float] = (), chunks: int = 1) -> Pairs:
    """Time runs and their bare forwards in turns, with the model's own sigmas by default."""
    model = subject.build()
    if not sigmas:
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS).tolist()
    stream = Stream(subject, model, sigmas)
    bare = BareForwards(subject, model, sigmas, stream.binding.traits)
    stream.advance(WARM_UP)
    bare()

    def forwards() -> None:
        for _ in range(chunks):
            bare()

    return in_turns(partial(stream.advance, chunks), forwards, count)
