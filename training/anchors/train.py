"""Trains a run: by one process on a card or a CPU, or by several on shared parameters.

In one process, a run that was interrupted and goes on equals one that was not, to the bit, if its
length is given in updates: a share of minutes depends on the clock. Workers race for the shared
parameters, so with two of them no run equals another.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from training.anchors.draws import Draws
from training.anchors.latents import Batch, LatentSet, OpeningSet
from training.anchors.network import Network, RunBlock, block
from training.anchors.rollout import Update
from training.anchors.runs import AVERAGE, Kept, Run, UpdateKind, first_params, run_folder
from training.dit import Params
from training.optim import warmup_stable_decay
from training.settings import stage_logger
from training.workers import Progress, new_progress, run_workers

# Seconds between checkpoints, updates between lines of the log and new looks for latents.
SAVE_EVERY, TELL_EVERY, RELOAD_EVERY = 60.0, 20, 200


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is: minutes of training, or updates; a given number of updates counts."""

    minutes: float = 60.0
    updates: int | None = None

    def share(self, updates: float, seconds: float) -> float:
        if self.updates is not None:
            return updates / self.updates
        return seconds / (60.0 * self.minutes)


def train(
    folder: Path,
    run: Run,
    length: Length,
    workers: int,
    device: torch.device,
    stop_after: int | None = None,
) -> Path:
    """Train a run to its end; goes on with one that was stopped.

    Args:
        folder: Where latents and runs are.
        run: The run.
        length: How long it is in all.
        workers: Processes; a card is used by one.
        device: Where to train.
        stop_after: Updates of this call, for a run that is to be continued.

    Returns:
        The averaged weights.
    """
    params = first_params(folder, run)
    home = run_folder(folder, run.name)
    progress = new_progress(0, 0.0)
    if device.type == "cuda" or workers == 1:
        params = {
            n: v.detach().to(device).requires_grad_(v.requires_grad) for n, v in params.items()
        }
        work(0, params, progress, folder, run, length, 1, stop_after)
    else:
        kept = Kept.begin(run, params)
        kept.restore(home, device)
        progress = new_progress(kept.updates, kept.seconds)
        for value in params.values():
            value.share_memory_()
        with ends_workers():
            run_workers(workers, work, params, progress, folder, run, length, workers, stop_after)
    return home / AVERAGE


@contextmanager
def ends_workers() -> Iterator[None]:
    """Let a request to end this process end its workers as well, which keep what they have."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def asked_to_stop() -> Iterator[list[bool]]:
    """Collect requests to stop, so that the update at hand is finished and kept."""
    asked: list[bool] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What updates are drawn from: clips, by where they begin, and openings if a run has any."""

    clips: LatentSet
    rows: dict[UpdateKind, list[int]]
    openings: OpeningSet | None

    @classmethod
    def load(cls, folder: Path, run: Run, device: torch.device) -> Drawn:
        """Read what a run needs of a folder.

        Raises:
            FileNotFoundError: It is not there.
        """
        clips = LatentSet.load(folder, device)
        rows: dict[UpdateKind, list[int]] = {
            "departing": clips.rows(True),
            "passing": clips.rows(False),
        }
        openings = OpeningSet.load(folder, device) if "opening" in run.kinds else None
        return cls(clips, rows, openings)

    def __str__(self) -> str:
        return f"{len(self.clips)} clips, {len(self.openings or ())} openings"

    def batch(self, run: Run, step: int, draws: Draws) -> Batch:
        """Draw the batch of an update."""
        kind = run.kind(step)
        if kind == "opening":
            assert self.openings is not None
            picked = draws.pick("openings", range(len(self.openings)), run.openings)
            return self.openings.batch(picked)
        return self.clips.batch(draws.pick("clips", self.rows[kind], run.clips))


def compiled_block() -> RunBlock:
    """Compile the block: layouts, commits and first chunks are graphs of their own."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(block)


def work(
    rank: int,
    params: Params,
    progress: Progress,
    folder: Path,
    run: Run,
    length: Length,
    workers: int,
    stop_after: int | None,
) -> None:
    """Update the parameters; the first worker also keeps time, averages and checkpoints."""
    log, home = stage_logger(run.name), run_folder(folder, run.name)
    device = next(iter(params.values())).device
    kept = Kept.begin(run, params)
    resumed = kept.restore(home, device, params=workers == 1)
    if not rank:
        progress[0], progress[1] = kept.updates, kept.seconds
    drawn = Drawn.load(folder, run, device)
    run_block = compiled_block() if device.type == "cuda" else block
    network = Network(run.config, run_block)
    if not rank:
        count = sum(value.numel() for value in params.values())
        log.info("%s, %d parameters, %s, %s", run, count, drawn, device)
        log.info("goes on from update %d" if resumed else "begins", *[kept.updates] * resumed)
    first, local = kept.updates, 0
    saved = begin = time.monotonic()
    with asked_to_stop() as asked:
        while (share := length.share(float(progress[0]), float(progress[1]))) < 1.0:
            if asked or local == stop_after:
                break
            step = first + workers * local + rank
            draws = Draws(run.seed, step, device)
            batch = drawn.batch(run, step, draws)
            task = run.task(step, share)
            losses = Update(network, params, batch, task, draws).learn()
            norm = kept.optimizer.step(warmup_stable_decay(share, int(progress[0])))
            if not math.isfinite(norm):
                raise RuntimeError(f"gradient norm is {norm} at update {step}, expected a number")
            progress[0] += 1
            local += 1
            if local % RELOAD_EVERY == 0 and length.updates is None:
                drawn = Drawn.load(folder, run, device)
            if rank:
                continue
            begin, last = time.monotonic(), begin
            progress[1] += begin - last
            kept.average.update(params.items())
            kept.losses.add(losses, run.kind(step))
            kept.updates, kept.seconds = int(progress[0]), float(progress[1])
            if local % TELL_EVERY == 0:
                told = kept.updates, kept.seconds, *kept.losses.means(), norm
                log.info("update %d, %.0f s, first %.4f, later %.4f, gradient %.2f", *told)
            if begin - saved > SAVE_EVERY:
                kept.save(home)
                saved = begin
    if not rank:
        kept.save(home)
        log.info("update %d, %.0f s: kept", kept.updates, kept.seconds)
