"""The loop: what workers tell comes in, what they are to make next goes out.

It does nothing itself but decide and write down. A worker that is lost is started again, and the
prompt that it had goes back to the schedule; its ledger line says where the stream was.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Protocol

from farm.errors import FarmError, JobError
from farm.jobs import Job
from farm.ledger import Begun, Entry, Ledger
from farm.schedule import Assignment, Plan, Rules, Schedule
from farm.shared_folder import SharedFolder
from farm.worker import Outcome, Started, Task

_STARTS = 3
"""How often a worker is started in a row before it is given up."""
_TICK = 0.5


class Remote(Protocol):
    """A worker that is somewhere else, as `cluster.RemoteWorker` is."""

    def start(self) -> Future[Started]:
        """As `Worker.start`."""

    def run(self, task: Task) -> Future[Outcome]:
        """As `Worker.run`."""

    def look(self, nodes: tuple[str, ...]) -> Future[float]:
        """As `Worker.chunks`, also while a prompt runs."""

    def renew(self) -> None:
        """End the worker, and have it started again."""


class Watcher(Protocol):
    """What shows how far the farm is."""

    def advanced(self, job: int, chunks: float) -> None:
        """A job has made so many chunks more, which may be a part of one."""

    def told(self, text: str) -> None:
        """Something happened that a person should know."""

    def tick(self) -> None:
        """Some time has passed."""


@dataclass
class WorkerRecord:
    """What a worker did.

    Args:
        host: Its machine.
        pid: Its process.
        server_pid: The process of its server.
        prompts: Prompts that it made.
        chunks: Chunks in them.
        busy: Seconds that it made prompts.
        starts: How often its server was started.
        state: What it does: starting, idle, busy or gone.
    """

    host: str = ""
    pid: int = 0
    server_pid: int = 0
    prompts: int = 0
    chunks: int = 0
    busy: float = 0.0
    starts: int = 0
    state: str = "starting"


@dataclass
class Report:
    """What a run did.

    Args:
        wall: Seconds.
        workers: What each worker did.
        prompts: Prompts that were made.
        chunks: Chunks in them.
        found: Prompts that a worker had committed when it was lost: they were not made again.
        retries: Prompts that were made again, or found, after their worker was lost.
        replays: Prompts that began where their stream was not warm.
        failed: Why a job was given up, by its name.
        stopped: Whether it was stopped before the end.
    """

    wall: float = 0.0
    workers: list[WorkerRecord] = field(default_factory=list)
    prompts: int = 0
    chunks: int = 0
    found: int = 0
    retries: int = 0
    replays: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


@dataclass
class _Running:
    """A prompt that is being made.

    Args:
        assignment: Which.
        task: What was sent.
        shown: Share of its chunks that the watcher was told.
    """

    assignment: Assignment
    task: Task
    shown: float = 0.0


class Driver:
    """One run of a list of jobs.

    Args:
        jobs: The list.
        ledger: What is done of it.
        folder: The shared folder.
        workers: The workers, none of them started.
        reason_of: Says of an error of a call what happened, and whether the worker is gone.
        watcher: What is told.
        rules: Of the schedule.
        timeout: Seconds that a prompt may take.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        ledger: Ledger,
        folder: SharedFolder,
        workers: Sequence[Remote],
        reason_of: Callable[[BaseException], tuple[str, bool]],
        watcher: Watcher,
        *,
        rules: Rules | None = None,
        timeout: float = 24 * 3600.0,
    ) -> None:
        self._jobs, self._ledger, self._folder = jobs, ledger, folder
        self._workers, self._reason_of, self._watcher = workers, reason_of, watcher
        self._timeout = timeout
        self._entries = [ledger.entry(job.name, job.digest) for job in jobs]
        plans = [_plan(job, entry) for job, entry in zip(jobs, self._entries, strict=True)]
        self._schedule = Schedule(plans, rules)
        self._events: SimpleQueue[tuple[Callable[[Future[Any]], None], Future[Any]]] = SimpleQueue()
        self._running: dict[int, _Running] = {}
        self._revisions: dict[str, int] = {}
        self._committed: dict[str, int] = {}
        for job, entry in zip(jobs, self._entries, strict=True):
            if job.stream is not None:
                known = max(entry.revision, self._committed.get(job.stream, 0))
                self._committed[job.stream] = known
        self._locks: dict[int, str] = {}
        self._after: dict[tuple[int, int], str] = {}
        self._failures: dict[int, int] = {}
        self._stops = 0
        self.report = Report(workers=[WorkerRecord() for _ in workers])

    def run(self) -> Report:
        """Make everything that is left, as far as it can be made.

        Raises:
            FarmError: If no worker is left, or the ledger or the folder cannot be used.
        """
        begin = time.monotonic()
        handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            for worker in range(len(self._workers)):
                self._start(worker)
            self._loop()
        finally:
            self.report.wall = time.monotonic() - begin
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self.report

    def _loop(self) -> None:
        ticked = time.monotonic()
        while not self._schedule.finished:
            if self._stops > 1 or (self._stops and not self._running):
                break
            if not self._stops:
                for assignment in self._schedule.assign():
                    self._begin(assignment)
            try:
                handle, done = self._events.get(timeout=_TICK)
            except Empty:
                pass
            else:
                handle(done)
            if time.monotonic() - ticked >= _TICK:
                ticked = time.monotonic()
                self._look()
                self._watcher.tick()
        self.report.stopped = not self._schedule.finished

    def _call(self, future: Future[Any], handle: Callable[[Future[Any]], None]) -> None:
        future.add_done_callback(lambda done: self._events.put((handle, done)))

    # Workers.

    def _start(self, worker: int) -> None:
        self.report.workers[worker].state = "starting"
        self._call(self._workers[worker].start(), partial(self._started, worker))

    def _started(self, worker: int, done: Future[Started]) -> None:
        error = done.exception()
        record = self.report.workers[worker]
        if error is None:
            started = done.result()
            self._failures.pop(worker, None)
            self._locks[worker] = started.lock
            record.starts += record.server_pid != started.server_pid
            record.host, record.pid, record.server_pid = (
                started.host,
                started.pid,
                started.server_pid,
            )
            record.state = "idle"
            self._schedule.up(worker)
            return
        reason, gone = self._reason_of(error)
        self._failures[worker] = self._failures.get(worker, 0) + 1
        if not gone and self._failures[worker] < _STARTS:
            self._start(worker)
            return
        record.state = "gone"
        self._watcher.told(f"Worker {worker} is given up: {reason}")
        if all(each.state == "gone" for each in self.report.workers):
            raise FarmError(f"No worker is left. The last one: {reason}")

    def _look(self) -> None:
        """Ask how far the prompts are that run."""
        for worker, running in self._running.items():
            if running.task.nodes:
                future = self._workers[worker].look(running.task.nodes)
                self._call(future, partial(self._looked, running))

    def _looked(self, running: _Running, done: Future[float]) -> None:
        current = self._running.get(running.assignment.worker)
        if current is running and done.exception() is None:
            self._show(running, done.result())

    def _show(self, running: _Running, share: float) -> None:
        chunks = self._jobs[running.assignment.job].chunks
        self._watcher.advanced(running.assignment.job, (share - running.shown) * chunks)
        running.shown = share

    # Prompts.

    def _begin(self, assignment: Assignment) -> None:
        job = self._jobs[assignment.job]
        began_at, after = 0, self._after.get((assignment.job, assignment.number))
        again = assignment.attempt > 0
        if job.stream is not None:
            try:
                began_at, begun = self._where_to_begin(assignment, job.stream)
            except JobError as error:
                self._give_up(self._schedule.failed(assignment.worker), str(error))
                return
            if begun is not None:
                again, after = True, after or begun.lock
            lock = self._locks[assignment.worker]
            self._ledger.begin(job.name, assignment.number, began_at, lock)
        nodes = job.chunk_nodes
        task = Task(
            job.prompt(assignment.number),
            job.stream,
            began_at,
            again,
            after,
            self._timeout,
            nodes,
        )
        self._running[assignment.worker] = _Running(assignment, task)
        self.report.workers[assignment.worker].state = "busy"
        self.report.retries += assignment.attempt > 0
        self.report.replays += not assignment.warm and began_at > 0
        future = self._workers[assignment.worker].run(task)
        self._call(future, partial(self._ended, assignment.worker))

    def _where_to_begin(self, assignment: Assignment, stream: str) -> tuple[int, Begun | None]:
        """Return the revision that a prompt continues, and what is known if it was begun before.

        Raises:
            JobError: If the stream has lost what the ledger says was committed.
        """
        begun = self._entries[assignment.job].begun
        if begun is not None and begun.number == assignment.number:
            return begun.revision, begun
        if stream not in self._revisions:
            now, known = self._folder.revision(stream), self._committed.get(stream, 0)
            if now < known:
                raise JobError(
                    f"job {self._jobs[assignment.job].name}",
                    f'the stream "{stream}" lacks what was made of it',
                    seen=f"revision {now}",
                    expected=f"revision {known} or later, as {self._ledger.path.name} says",
                    remedy="put the stream back, or give the jobs that made it another stream",
                )
            self._revisions[stream] = now
        return self._revisions[stream], None

    def _ended(self, worker: int, done: Future[Outcome]) -> None:
        running = self._running.pop(worker)
        error = done.exception()
        if error is None:
            outcome = done.result()
        else:
            # It may only be out of reach, and its server still at work.
            self._workers[worker].renew()
            outcome = Outcome("lost", reason=self._reason_of(error)[0])
        self.report.workers[worker].state = "idle"
        {"done": self._done, "failed": self._failed, "lost": self._lost}[outcome.kind](
            running, outcome
        )

    def _done(self, running: _Running, outcome: Outcome) -> None:
        assignment = running.assignment
        job, record = self._jobs[assignment.job], self.report.workers[assignment.worker]
        self._ledger.done(job.name, assignment.number, outcome.revision, outcome.files)
        if job.stream is not None:
            self._revisions[job.stream] = outcome.revision
        self._schedule.done(assignment.worker)
        self._show(running, 1.0)
        if not outcome.made:
            self.report.found += 1
            return
        self.report.prompts += 1
        self.report.chunks += job.chunks
        record.prompts += 1
        record.chunks += job.chunks
        record.busy += outcome.seconds

    def _failed(self, running: _Running, outcome: Outcome) -> None:
        self._show(running, 0.0)
        self._ledger.ended(self._jobs[running.assignment.job].name)
        self._give_up(self._schedule.failed(running.assignment.worker), outcome.reason)

    def _lost(self, running: _Running, outcome: Outcome) -> None:
        assignment = running.assignment
        self._show(running, 0.0)
        self._after[assignment.job, assignment.number] = self._locks[assignment.worker]
        name = self._jobs[assignment.job].name
        self._watcher.told(
            f"Worker {assignment.worker} was lost with prompt {assignment.number + 1} of {name}: "
            f"{outcome.reason}"
        )
        given_up = self._schedule.lost(assignment.worker)
        self._schedule.down(assignment.worker)
        self._give_up(given_up, f"lost too often; the last time: {outcome.reason}")
        self._start(assignment.worker)

    def _give_up(self, jobs: Sequence[int], reason: str) -> None:
        """Write down that a job is not made, and those that would have continued its stream."""
        for position, job in enumerate(jobs):
            name = self._jobs[job].name
            first = self._jobs[jobs[0]].name
            why = reason if not position else f"not begun, since {first} of its stream failed"
            self._ledger.failed(name, why)
            self.report.failed[name] = why
            self._watcher.told(f"Job {name}: {why}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stops += 2 if number == signal.SIGTERM else 1
        if self._stops == 1:
            self._watcher.told(
                "Stopping when the prompts that run are done. Press Ctrl-C again to stop now."
            )


def _plan(job: Job, entry: Entry) -> Plan:
    return Plan(job.stream, job.times, frozenset(entry.done))
