"""A farm of two workers on this machine, small jobs for it, and what kills its processes."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from adastate_core.files.named_stream import open_stream
from farm.cluster import Cluster, ClusterSettings, RemoteWorker, reason_of
from farm.driver import Driver, Report, WorkerRecord
from farm.jobs import Job, read_jobs
from farm.ledger import Ledger
from farm.schedule import Rules
from farm.server import ServerSettings
from farm.shared_folder import SharedFolder
from tools.contact_sheet import read_frames

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "workflows" / "api" / "09 Continue a named stream.json"
SMALL = {"5.steps": 1, "7.width": 32, "7.height": 32, "11.chunks": 1}
"""As little as the demo models can be asked for."""
KILLS = int(os.environ.get("ADASTATE_FARM_KILLS", "2"))
"""How often something is killed; `make farm-kill-test` does it more often."""
only_in_full = pytest.mark.skipif(KILLS < 10, reason="make farm-kill-test runs it")
STREAMS, CHUNKS = 6, 5
SHOWN = 2
"""Streams of which a video is made as well."""
_SHOWS = ("12", "13", "14")
"""Nodes that decode the whole stream and save it as a video, which costs most of a prompt."""


def job(
    name: str, stream: str, *, times: int = 1, video: bool = False, **values: Any
) -> dict[str, Any]:
    """Return a line of a list: a named stream of the demo models, as small as can be.

    Args:
        name: Its name.
        stream: The stream.
        times: How often it is queued.
        video: Whether each prompt saves a video of the whole stream, before it commits.
        values: More inputs, as `node_input`.
    """
    workflow = json.loads(WORKFLOW.read_text("utf-8"))
    if not video:
        workflow = {key: node for key, node in workflow.items() if key not in _SHOWS}
        del workflow["15"]["inputs"]["after"]
    given = {key.removeprefix("n").replace("_", ".", 1): value for key, value in values.items()}
    line = {"name": name, "workflow": workflow, "set": {**SMALL, **given}}
    return {**line, "times": times, "stream": stream}


def two_jobs(run: str, streams: int = STREAMS) -> list[dict[str, Any]]:
    """Return two jobs for every stream, the second of which adds the last chunk."""
    named = [(n, f"{run} {n}") for n in range(streams)]
    return [
        *(job(f"{name} begins", name, times=CHUNKS - 1, n11_seed=n) for n, name in named),
        *(job(f"{name} ends", name, n11_seed=n, video=n < SHOWN) for n, name in named),
    ]


def written(path: Path, lines: Sequence[dict[str, Any]]) -> list[Job]:
    path.write_text("\n".join(map(json.dumps, lines)))
    return read_jobs(path)


@dataclass
class Watched:
    """Keeps what a driver tells."""

    texts: list[str] = field(default_factory=list)
    chunks: dict[int, float] = field(default_factory=dict)

    def advanced(self, job: int, chunks: float) -> None:
        self.chunks[job] = self.chunks.get(job, 0.0) + chunks

    def told(self, text: str) -> None:
        self.texts.append(text)

    def tick(self) -> None:
        pass


@dataclass
class Crew:
    """Workers that are there, and the folder that they share."""

    folder: SharedFolder
    workers: list[RemoteWorker]
    lists: Path

    @classmethod
    @contextmanager
    def open(cls, base: Path, tree: Path, *, workers: int) -> Iterator[Crew]:
        """Start Ray, the workers and their servers."""
        folder = SharedFolder(base / "output")
        folder.prepare()
        server = ServerSettings(
            tree=tree,
            pack=ROOT,
            output=folder.path,
            scratch=base / "scratch",
            args=("--preview-method", "none"),
        )
        settings = ClusterSettings(workers, cpus=1)
        with Cluster(settings) as cluster, cluster.workers(server) as crew:
            for started in [worker.start() for worker in crew]:
                started.result()
            yield cls(folder, crew, base)

    def run(
        self,
        lines: Sequence[dict[str, Any]],
        name: str,
        *,
        meanwhile: Callable[[Driver], None] | None = None,
        rules: Rules | None = None,
        workers: int | None = None,
    ) -> tuple[Report, Watched]:
        """Run a list of jobs, and something else in a thread until it is done."""
        path = self.lists / f"{name}.jsonl"
        jobs, watched = written(path, lines), Watched()
        crew = self.workers[:workers]
        with Ledger(path.with_suffix(".ledger")) as ledger:
            driver = Driver(
                jobs, ledger, self.folder, crew, reason_of, watched, rules=rules, timeout=300
            )
            if meanwhile is None:
                return driver.run(), watched
            beside = threading.Thread(target=meanwhile, args=(driver,), daemon=True)
            beside.start()
            report = driver.run()
            beside.join(60)
            assert not beside.is_alive()
        return report, watched

    def stream(self, name: str) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Return content and state of every chunk of a stream."""
        state = open_stream(self.folder.path / "adastate" / "streams", name, None)  # type: ignore[arg-type]
        return [(e.content, e.state) for e in state.events if hasattr(e, "content")]

    def video(self, job: str) -> list[Any]:
        """Return the frames of the newest video of the first prompt of a job."""
        videos = (self.folder.path / "adastate").glob(f"named.{job}.00001_*.mp4")
        return read_frames(max(videos))


def equal(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    """Say whether two streams are equal to the bit."""
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) if a is not None and b is not None else a is b
        for mine, other in zip(ours, theirs, strict=True)
        for a, b in zip(mine, other, strict=True)
    )


def assert_as_alone(crew: Crew, run: str, streams: int = STREAMS) -> None:
    """Check that streams of a run, and their videos, are those that one server made."""
    for number in range(streams):
        made = crew.stream(f"{run} {number}")
        assert len(made) == CHUNKS
        assert equal(made, crew.stream(f"alone {number}"))
        assert crew.folder.revision(f"{run} {number}") == CHUNKS
    for number in range(SHOWN):
        frames = crew.video(f"{run} {number} ends")
        assert len(frames) > 12 * (CHUNKS - 1)
        assert frames == crew.video(f"alone {number}")


class Killer:
    """Ends processes of a farm by kill -9, at random moments while prompts run.

    Args:
        kills: How often, in all the runs that it is given.
        seed: Of the moments and victims.
    """

    KINDS = ("server", "actor", "worker")

    def __init__(self, kills: int, seed: int) -> None:
        self._kills, self._random = kills, random.Random(seed)
        self.killed: list[str] = []

    def __call__(self, driver: Driver) -> None:
        while len(self.killed) < self._kills and (victim := self._busy(driver)) is not None:
            kind = self.KINDS[len(self.killed) % len(self.KINDS)]
            pids = {"server": [victim.server_pid], "actor": [victim.pid]}.get(
                kind, [victim.pid, victim.server_pid]
            )
            # One that is gone already was killed before, and its worker is not known to be lost.
            if _kill(pids[0]):
                for pid in pids[1:]:
                    _kill(pid)
                self.killed.append(kind)

    def _busy(self, driver: Driver) -> WorkerRecord | None:
        """Wait until a worker is at work, and then for a moment; None if the run ends before."""
        while not driver.report.wall:
            busy = [w for w in driver.report.workers if w.state == "busy"]
            if busy:
                victim = self._random.choice(busy)
                time.sleep(self._random.uniform(0.0, 2.0))
                if victim.state == "busy":
                    return victim
            time.sleep(0.02)
        return None


def _kill(pid: int) -> bool:
    """End a process, and say whether it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
