"""What a farm costs: over bare queueing, two workers over one, and with a thousand streams.

The first two with real servers and the demo models; the last with workers that only sleep, so that
nothing but the schedule, the ledger and Ray's calls is measured.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import requests
import torch

from benchmarks.harness import Measured, Row, in_turns, resident, seconds
from farm.cluster import Cluster, ClusterSettings, RemoteWorker, reason_of
from farm.driver import Driver
from farm.jobs import Job, read_jobs
from farm.ledger import Ledger
from farm.schedule import Rules
from farm.server import ServerSettings
from farm.shared_folder import SharedFolder
from farm.worker import Outcome, Started, Task
from tools import environment
from tools.client import ComfyClient

WORKFLOW = environment.ROOT / "workflows" / "api" / "09 Continue a named stream.json"
SHOWS = ("12", "13", "14")
"""Nodes of it that decode the whole stream, which would take longer with every prompt."""


class Quiet:
    """A watcher that shows nothing."""

    def advanced(self, job: int, chunks: float) -> None:
        """Show nothing."""

    def told(self, text: str) -> None:
        """Show nothing."""

    def tick(self) -> None:
        """Show nothing."""


@dataclass
class Lists:
    """Lists of jobs in a folder, each with streams that nobody had before.

    Args:
        folder: Where they go.
    """

    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self, streams: int, prompts: int, **values: int) -> tuple[Path, list[Job]]:
        """Write a list of so many streams with so many prompts each."""
        graph = json.loads(WORKFLOW.read_text("utf-8"))
        graph = {key: node for key, node in graph.items() if key not in SHOWS}
        del graph["15"]["inputs"]["after"]
        number = next(self.numbers)
        workflow = self.folder / f"{number}.json"
        workflow.write_text(json.dumps(graph))
        settings = {name.removeprefix("n").replace("_", ".", 1): v for name, v in values.items()}
        path = self.folder / f"{number}.jsonl"
        lines = [
            {"name": name, "workflow": workflow.name, "stream": name, "times": prompts}
            | {"set": {**settings, "11.seed": stream}}
            for stream in range(streams)
            if (name := f"bench {number} {stream}")
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        return path, read_jobs(path)


@dataclass
class Waits:
    """Seconds of runs in which a server had no prompt, and those in which it had one.

    Between two prompts a farm and a bare queue do all that they do; the prompts themselves take
    now longer and now shorter, which hides a few milliseconds in any ratio of whole runs.

    Args:
        url: Address of the server.
    """

    url: str
    waiting: list[float] = field(default_factory=list)
    working: list[float] = field(default_factory=list)

    def note(self, run: Callable[[], object]) -> None:
        """Make a run and note both."""
        since = time.time()
        whole = seconds(run)
        work = executing(self.url, since)
        self.working.append(work)
        self.waiting.append(whole - work)


def executing(url: str, since: float) -> float:
    """Return the seconds that a server was at work on prompts that it began after a moment."""
    history = requests.get(f"{url}/history", timeout=60).json()
    total = 0.0
    for entry in history.values():
        told = {name: data["timestamp"] / 1000 for name, data in entry["status"]["messages"]}
        if told["execution_start"] >= since:
            total += told["execution_success"] - told["execution_start"]
    return total


@dataclass(frozen=True)
class Farm:
    """Sizes: of the real streams, and of those that only sleep."""

    streams: int = 4
    prompts: int = 3
    chunks: int = 4
    steps: int = 8
    size: tuple[int, int] = (8, 8)
    pairs: int = 3
    many: int = 1000
    few: int = 100
    sleepers: int = 100
    tasks: int = 3000

    def measure(self) -> Measured:
        """Return the ratios of real farms, and what a prompt and a stream cost the driver."""
        with tempfile.TemporaryDirectory(prefix="adastate-bench-") as base:
            bases = [Path(base) / name for name in ("real", "asleep")]
            for each in bases:
                each.mkdir()
            rows, details = self._real(bases[0])
            more, others = self._asleep(bases[1])
        return Measured([*rows, *more], {**details, **others, "setting": dict(vars(self))})

    def _real(self, base: Path) -> tuple[list[Row], dict[str, Any]]:
        folder = SharedFolder(base / "output")
        folder.prepare()
        server = ServerSettings(
            tree=environment.tree_path(),
            pack=environment.ROOT,
            output=folder.path,
            scratch=base / "scratch",
            args=("--preview-method", "none"),
        )
        lists = Lists(base)
        rows, columns = self.size
        sizes = {"n7_height": 8 * rows, "n7_width": 8 * columns, "n5_steps": self.steps}

        def new() -> tuple[Path, list[Job]]:
            return lists.new(self.streams, self.prompts, **sizes, n11_chunks=self.chunks)

        with (
            Cluster(ClusterSettings(2, cpus=torch.get_num_threads())) as cluster,
            cluster.workers(server) as workers,
        ):
            urls = [future.result().url for future in [worker.start() for worker in workers]]

            def farm(count: int) -> None:
                path, jobs = new()
                run(path, jobs, folder, workers[:count], Rules(streams=1))

            def bare(count: int) -> None:
                _, jobs = new()
                with ThreadPoolExecutor(count) as pool:
                    parts = [jobs[number::count] for number in range(count)]
                    list(pool.map(queue, urls, parts))

            ours, theirs = Waits(urls[0]), Waits(urls[0])
            farm(2)  # loads the models
            overhead = in_turns(
                lambda: ours.note(lambda: farm(1)), lambda: theirs.note(lambda: bare(1)), self.pairs
            )
            both = in_turns(lambda: farm(1), lambda: farm(2), self.pairs)
            bare_both = in_turns(lambda: farm(2), lambda: bare(2), self.pairs)
        prompts = self.streams * self.prompts
        more = median(ours.waiting) - median(theirs.waiting)
        between = 1 + more / median(ours.working + theirs.working)
        details = {
            **overhead.details("farm_over_bare", "one_worker_seconds", "bare_seconds"),
            "waiting_seconds_a_prompt": median(ours.waiting) / prompts,
            "bare_waiting_seconds_a_prompt": median(theirs.waiting) / prompts,
            "two_workers": both.details(
                "one_over_two", "one_worker_seconds", "two_workers_seconds"
            ),
            "two_bare": bare_both.details(
                "farm_over_bare", "two_workers_seconds", "two_bare_seconds"
            ),
            "two_bare_over_one_bare": median(overhead.bare) / median(bare_both.bare),
        }
        return [
            Row("a farm of one worker over bare queueing", overhead.ratio, 1.03),
            Row("the same, by what lies between the prompts", between, 1.03),
            Row("two workers over one, a thread each", both.ratio, 1.7, at_least=True),
            Row("two workers over two servers queued bare", bare_both.ratio, 1.03),
        ], details

    def _asleep(self, base: Path) -> tuple[list[Row], dict[str, Any]]:
        folder = SharedFolder(base / "output")
        folder.prepare()
        lists, taken = Lists(base), {}
        with (
            Cluster(ClusterSettings(2, cpus=1)) as cluster,
            sleepers(cluster, self.sleepers) as all_,
        ):
            self._cost(lists, folder, all_, self.few)  # whatever is made once
            for streams in (self.few, self.many):
                taken[streams] = self._cost(lists, folder, all_, streams)
        (few, _), (many, grown) = taken[self.few], taken[self.many]
        where = f"{self.many} streams over {self.sleepers} workers"
        details = {
            "driver_seconds_a_prompt_few": few,
            "driver_seconds_a_prompt_many": many,
            "driver_bytes_many": grown,
        }
        return [
            Row(f"driver, {where}", 1000 * many, 10, "ms a prompt"),
            Row(f"driver, {where}, over {self.few}", many / few, 1.2),
            Row(f"memory of the driver, {where}", grown / 2**20, 50, "MiB"),
        ], details

    def _cost(
        self, lists: Lists, folder: SharedFolder, workers: Sequence[Any], streams: int
    ) -> tuple[float, int]:
        """Return what a prompt takes of the driver's processor time, and the memory of a run."""
        before = resident()
        path, jobs = lists.new(streams, max(1, self.tasks // streams))
        started = time.process_time()
        run(path, jobs, folder, workers, Rules())
        used = time.process_time() - started
        return used / sum(job.times for job in jobs), max(0, resident() - before)


def queue(url: str, jobs: Sequence[Job]) -> None:
    """Make jobs by one server, one prompt after the other."""
    with ComfyClient(url) as client:
        for job in jobs:
            for number in range(job.times):
                client.run(job.prompt(number))


def run(
    path: Path, jobs: list[Job], folder: SharedFolder, workers: Sequence[Any], rules: Rules
) -> None:
    """Run a list to its end.

    Raises:
        RuntimeError: If anything of it is not done, which would be no fair measure.
    """
    with Ledger(path.with_suffix(".ledger")) as ledger:
        report = Driver(jobs, ledger, folder, workers, reason_of, Quiet(), rules=rules).run()
    if report.failed or report.stopped or report.retries:
        raise RuntimeError(f"no fair measure: {report}")


class Sleepers:
    """Workers in one process that only sleep."""

    def start(self) -> Started:
        """Be ready."""
        return Started("asleep", 0, 0, "none", "")

    def run(self, task: Task) -> Outcome:
        """Take the time of a short prompt."""
        time.sleep(0.2)
        return Outcome("done", task.began_at + 1, True, 0.2)


class Sleeper(RemoteWorker):
    """One of them, from outside."""

    def look(self, nodes: tuple[str, ...]) -> Future[float]:
        """Return nothing new, without asking."""
        future: Future[float] = Future()
        future.set_result(0.0)
        return future


@contextmanager
def sleepers(cluster: Cluster, count: int, processes: int = 4) -> Iterator[list[Sleeper]]:
    """Make so many workers that only sleep, in a few processes."""
    ray = cluster.ray
    kind = ray.remote(num_cpus=0, max_concurrency=count)(Sleepers)
    actors = [kind.remote() for _ in range(processes)]
    yield [Sleeper(ray, actors[number % processes]) for number in range(count)]
    for actor in actors:
        ray.kill(actor)
