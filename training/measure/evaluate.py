"""Measures rows of streams and the controls; everything that takes long is kept in a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.measure.clips import Pair, name_of
from training.measure.controls import controls, reference
from training.measure.figures import figures_of
from training.measure.looks import KeptLooks, Look, drift_of
from training.measure.moments import Array, Asked, asked, moments, stream_times
from training.measure.reader import Reader
from training.measure.space import Space
from training.measure.statistics import Interval, frechet, frechet_interval
from training.measure.streams import Kept, Row, Source
from training.panorama.journey import Journey
from training.panorama.prompts import split
from training.workers import run_jobs

SEED = 40_000
# Fewer streams say too little about a covariance of 24 features.
ENOUGH = 32


def fixed_pairs(count: int) -> list[Pair]:
    """The same unseen prompts and seeds every time; more of them begin with fewer."""
    prompts = split(unseen=True)
    order = np.random.default_rng(2026).permutation(len(prompts))
    return [(prompts[order[i % len(prompts)]], SEED + i) for i in range(count)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: prompts, chunks and what is decoded; ``folder`` keeps what it takes."""

    folder: Path
    pairs: list[Pair]
    chunks: int
    decode_every: int
    controls: int
    workers: int = 1

    @property
    def decoded(self) -> list[int]:
        """Chunks of which pictures are decoded and features compared to the world's."""
        return moments(self.chunks, self.decode_every)


@dataclass(slots=True)
class Measured:
    """A row of the table: figures of each stream, and the Frechet distances of all of them."""

    name: str
    prompts: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    looks: list[list[Look]] = field(default_factory=list)
    # By chunk; none where streams are too few to tell.
    frechet: dict[int, Interval] = field(default_factory=dict)

    def values(self, figure: str) -> list[float]:
        return [one.get(figure, float("nan")) for one in self.figures]


@dataclass(frozen=True, slots=True)
class Found:
    """One stream that is measured; ``digest`` names what made it."""

    pair: Pair
    load: Callable[[], Tensor]
    digest: str


@dataclass(slots=True)
class Bench:
    """What every stream is measured with."""

    plan: Plan
    space: Space
    reader: Reader
    spent: dict[str, float] = field(default_factory=dict)

    @property
    def looks(self) -> KeptLooks:
        return KeptLooks(self.plan.folder / "looks", self.space, self.plan.decoded)

    def add(self, what: str, seconds: float) -> None:
        self.spent[what] = self.spent.get(what, 0.0) + seconds

    def told(self, pairs: Sequence[Pair]) -> list[Asked]:
        journeys = [Journey.draw(*pair) for pair in pairs]
        return asked(journeys, stream_times(len(pairs), self.plan.chunks))

    def measure(
        self, name: str, streams: Sequence[Found], world: dict[int, Array] | None = None
    ) -> Measured:
        """Measure the streams of a row; the Frechet distance is to features of the ``world``."""
        row, features = Measured(name), []
        told = self.told([one.pair for one in streams])
        for one, wanted in zip(streams, told, strict=True):
            pair, clip, begin = one.pair, one.load(), time.monotonic()
            read = self.reader.read(clip[None])
            figures = figures_of(pair[0], wanted, read, clip)
            self.add("reading", time.monotonic() - begin)
            begin = time.monotonic()
            looks = self.looks.of(f"{one.digest}-{name_of(*pair)}", partial(_same, clip))
            figures |= drift_of(looks, self.looks.world(pair))
            self.add("decoding and looking", time.monotonic() - begin)
            row.prompts.append(pair[0].text)
            row.seeds.append(pair[1])
            row.figures.append(figures)
            row.looks.append(looks)
            features.append(read.features[self.plan.decoded])
        if world is not None and len(streams) >= ENOUGH:
            every = np.stack(features)
            row.frechet = {
                chunk: frechet_interval(every[:, at], world[chunk])
                for at, chunk in enumerate(self.plan.decoded)
            }
        return row


def _same(clip: Tensor) -> Tensor:
    return clip


def _make(job: tuple[Path, Source, list[Pair], int]) -> float:
    folder, source, pairs, chunks = job
    torch.set_num_threads(1)
    begin = time.monotonic()
    with torch.no_grad():
        Kept(folder).make(source, pairs, chunks)
    return time.monotonic() - begin


def _look(job: tuple[KeptLooks, Path, Source, Pair, int]) -> float:
    looks, folder, source, pair, chunks = job
    torch.set_num_threads(1)
    begin = time.monotonic()
    looks.of(f"{source.digest}-{name_of(*pair)}", partial(Kept(folder).load, source, pair, chunks))
    looks.world(pair)
    return time.monotonic() - begin


def make_streams(bench: Bench, sources: Sequence[Source], say: Callable[[str], None]) -> None:
    """Make all streams that are missing, in batches, and look at their decoded chunks.

    Both is done by one-thread workers; their seconds add up in ``bench.spent``.
    """
    plan, folder = bench.plan, bench.plan.folder / "streams"
    batches = [
        (folder, source, batch, plan.chunks)
        for source in sources
        for batch in Kept(folder).missing(source, plan.pairs, plan.chunks)
    ]
    looks = [
        (bench.looks, folder, source, pair, plan.chunks)
        for source in sources
        for pair in plan.pairs
        if not bench.looks.has(f"{source.digest}-{name_of(*pair)}")
    ]
    if not batches and not looks:
        return
    for done, seconds in enumerate(run_jobs(plan.workers, _make, batches), 1):
        bench.add("making streams", seconds)
        say(f"streams: batch {done} of {len(batches)}, {seconds:.0f} s")
    for seconds in run_jobs(plan.workers, _look, looks):
        bench.add("decoding and looking", seconds)


@dataclass(slots=True)
class Result:
    """All rows, what they were measured with, and what it took."""

    rows: list[Measured]
    controls: list[Measured]
    # Frechet distances of two halves of the world by chunk: what no row can be better than.
    floor: dict[int, float]
    about: dict[str, object]
    spent: dict[str, float]


def evaluate(
    bench: Bench,
    rows: Sequence[tuple[Row, Source]],
    about: dict[str, object],
    say: Callable[[str], None] = print,
) -> Result:
    """Measure all rows on the same prompts and seeds, then the controls on the first few.

    Rows of one name are one row of the table: the same anchor, trained from several seeds.
    """
    plan = bench.plan
    make_streams(bench, [source for _, source in rows], say)
    begin = time.monotonic()
    world = None
    if len(plan.pairs) >= ENOUGH and rows:
        world = reference(plan.folder, bench.space, bench.reader, plan.pairs, plan.decoded)
    few = plan.pairs[: plan.controls]
    made = controls(plan.folder, bench.space, few, plan.chunks) if few else {}
    bench.add("painting and encoding the world", time.monotonic() - begin)
    streams, found = Kept(plan.folder / "streams"), dict[str, list[Found]]()
    for row, source in rows:
        found.setdefault(row.name, []).extend(
            Found(pair, partial(streams.load, source, pair, plan.chunks), source.digest)
            for pair in plan.pairs
        )
    measured = []
    for name, those in found.items():
        say(f"measuring {name}")
        measured.append(bench.measure(name, those, world))
    checked = []
    for index, (name, clips) in enumerate(made.items()):
        say(f"measuring {name}")
        # Some controls end otherwise if they are longer.
        digest = f"control-{index}-{plan.chunks}"
        spoiled = [
            Found(pair, partial(_same, clip), digest)
            for pair, clip in zip(few, clips, strict=False)
        ]
        if spoiled:
            checked.append(bench.measure(name, spoiled))
    floor = {}
    for chunk, features in (world or {}).items():
        floor[chunk] = frechet(features[::2], features[1::2])
    return Result(measured, checked, floor, about, bench.spent)
