"""What a stream leaves of a graphics card's speed, on a model of real size with random weights.

Bare forwards over keys that lie ready are what the card can do; a chunk through the nodes is what
an artist gets. A profile of one chunk says for how much of its time the card computes, and how
often the processor waits for it. Forms of the cache are compared with the plain one in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.caches import FORMS
from benchmarks.growth import Growth
from benchmarks.harness import Measured, Row, finished, in_turns, on_cuda, pack, seconds
from benchmarks.models import RealSize, Subject
from benchmarks.speed import FRAMES, SIGMAS
from benchmarks.streams import SIZES, BareForwards, Stream

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
WAITS_OF_A_CHUNK = 4
"""We look at the latents once; fewer than the steps of a chunk in any case."""
COST = {"fp8": 1.03, "system memory": 1.15, "fp8 in system memory": 1.3}
"""Time of a chunk over that with a plain cache, at most."""


@dataclass(frozen=True)
class Card(RealSize):
    """The model, as in the part on speed, and the chunks before and while it is timed."""

    warm_up: int = 4
    pairs: int = 7

    def measure(self) -> Measured:
        """Return the overhead, the profile of a chunk, and what every form of the cache costs."""
        subject = self.subject()
        model = subject.build()
        stream = _open(subject, model)
        bare = BareForwards(subject, model, SIGMAS, stream.binding.traits)
        stream.advance(self.warm_up)
        bare()
        overhead = in_turns(partial(finished, stream.advance), partial(finished, bare), self.pairs)
        told = _profiled(stream.advance)
        rows = [
            Row("a chunk over bare forwards", overhead.ratio, 1.03),
            Row("share of a chunk in which the card computes", told["busy"], 0.97, at_least=True),
            Row("waits of a chunk", told["waits"], WAITS_OF_A_CHUNK),
        ]
        forms = {}
        for name, apply in FORMS.items():
            other = _open(subject, model, apply=apply)
            other.advance(self.warm_up)
            pairs = in_turns(
                partial(finished, other.advance), partial(finished, stream.advance), self.pairs
            )
            forms[name] = pairs.details("time_ratio", "chunk_seconds", "plain_seconds")
            rows.append(Row(f"a chunk with its cache in {name}", pairs.ratio, COST[name]))
        details = overhead.details("overhead", "chunk_seconds", "bare_seconds")
        setting = {**vars(self), **SIZES, "sigmas": SIGMAS}
        return Measured(rows, {**details, "profile": told, "forms": forms, "setting": setting})


@dataclass(frozen=True)
class Larger(Card):
    """A model of the size of Wan 2.1 14B."""

    dim: int = 5120
    layers: int = 40
    feed_forward: int = 13824
    pairs: int = 3

    def measure(self) -> Measured:
        """Return frames per second."""
        subject = self.subject()
        stream = _open(subject, subject.build())
        stream.advance(self.warm_up)
        taken = [seconds(partial(finished, stream.advance)) for _ in range(self.pairs)]
        fps = FRAMES * len(taken) / sum(taken)
        row = Row("without decoding, 14B", fps, 7.0, "fps", at_least=True)
        return Measured([row], {"fps": fps, "chunk_seconds": taken, "setting": vars(self)})


@dataclass(frozen=True)
class Long(Growth):
    """A long stream on the card, of a model as deep as the real one."""

    dim: int = RealSize.dim
    layers: int = RealSize.layers
    size: tuple[int, int] = RealSize.size
    dtype: str = RealSize.dtype
    pairs: int = 11
    target: float = 1.01


def _open(subject: Subject, model: Any, **options: Any) -> Stream:
    history = pack().part("adastate_comfy.video.render_history").HISTORY
    return Stream(subject, model, SIGMAS, sampler="lcm", history_chunks=history, **options)


def _profiled(make: Callable[[], None]) -> dict[str, float]:
    """Make a chunk under torch's profiler; return what it says."""
    activities = [ProfilerActivity.CPU]
    if on_cuda():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        wall = seconds(partial(finished, make))
    rows = profiler.key_averages()
    # What an operation has the card do is listed with the operation and once more by itself.
    spent = (
        sum(row.self_device_time_total for row in rows if row.device_type.name == "CUDA")
        if on_cuda()
        else sum(row.self_cpu_time_total for row in rows)
    )
    return {
        "busy": spent / 1e6 / wall,
        "waits": float(sum(row.count for row in rows if row.key in WAITS)),
        "copies_to_the_card": float(sum(r.count for r in rows if "HtoD" in r.key)),
        "wall_seconds": wall,
    }
