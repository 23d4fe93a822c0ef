"""Who makes which prompt next: rules alone, without a clock, a process or a file.

The prompts of a stream are made in order, one at a time. A worker serves up to `streams` streams in
turn, which therefore are warm there, and takes a new one only while it has fewer. A stream goes
back to the worker that served it last, unless that one is lost, or more than `queue` prompts wait
there while another worker has nothing to do: then that one takes the stream over.

A prompt that was lost with its worker is made again, at most `retries` times, and elsewhere if
there is an elsewhere. One that failed for its own sake is not; the rest of its job is not made
either, and neither are later jobs of the same stream, which would continue what is not there.

Every step costs the same however many jobs there are: a logarithm of the number of workers.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rules:
    """What decides where a prompt is made.

    Args:
        streams: Streams that a worker serves in turn.
        queue: Prompts that may wait at a busy worker while another has nothing to do.
        retries: How often a prompt that was lost is made again.
    """

    streams: int = 2
    queue: int = 2
    retries: int = 3


@dataclass(frozen=True)
class Plan:
    """What the schedule has to know of a job.

    Args:
        stream: The stream that it continues.
        times: How many prompts it has.
        done: Which of them are done, from 0.
    """

    stream: str | None
    times: int
    done: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Assignment:
    """A prompt that a worker is to make now.

    Args:
        worker: The worker.
        job: Position of the job.
        number: Which of its prompts, from 0.
        attempt: How often it was lost before.
        warm: Whether the worker made the prompt before it, and kept its stream since.
    """

    worker: int
    job: int
    number: int
    attempt: int
    warm: bool


@dataclass(eq=False)
class _Chain:
    """Prompts that are made one after the other: those of a stream, or a single one.

    Args:
        left: Its prompts that are not done, the next one first.
        home: The worker that keeps it.
        served: The worker that made its last prompt, and how often that one had been lost.
        attempt: How often its next prompt was lost.
        avoid: Where that was.
    """

    left: deque[tuple[int, int]]
    home: int | None = None
    served: tuple[int, int] | None = None
    attempt: int = 0
    avoid: int | None = None


@dataclass(eq=False)
class _Worker:
    """A worker, its streams and what they wait for.

    Args:
        up: Whether it can work.
        lives: How often it was lost: what it kept warm is gone then.
        busy: What it works on.
        ready: Its streams that wait, the longest first.
        homed: How many streams it keeps, with the one it works on.
        waiting: How many prompts those that wait have left.
    """

    up: bool = False
    lives: int = 0
    busy: _Chain | None = None
    ready: deque[_Chain] = field(default_factory=deque)
    homed: int = 0
    waiting: int = 0


class Schedule:
    """The prompts of all jobs, and which worker has which.

    Args:
        plans: The jobs, in their order.
        rules: What decides.
    """

    def __init__(self, plans: Sequence[Plan], rules: Rules | None = None) -> None:
        self._plans = plans
        self._rules = rules or Rules()
        self.stopped: set[int] = set()
        """Jobs that failed, and those that could not be begun for it."""
        self._workers: dict[int, _Worker] = {}
        self._fresh = self._chains()
        self._next: _Chain | None = next(self._fresh, None)
        self._again: deque[_Chain] = deque()
        self._crowded: list[tuple[int, int]] = []
        self._idle: dict[int, None] = {}
        self._running = self._waiting = self._up = 0

    @property
    def running(self) -> int:
        """How many prompts are being made."""
        return self._running

    @property
    def finished(self) -> bool:
        """Whether nothing is left to make."""
        return not (self._running or self._waiting or self._again or self._next is not None)

    def up(self, worker: int) -> None:
        """Note that a worker is ready, for the first time or again."""
        found = self._workers.setdefault(worker, _Worker())
        if not found.up:
            found.up = True
            self._up += 1
            self._idle[worker] = None

    def down(self, worker: int) -> None:
        """Note that a worker is lost, with whatever it kept warm; `lost` comes before."""
        found = self._workers.setdefault(worker, _Worker())
        if found.up:
            found.up = False
            self._up -= 1
            found.lives += 1
        self._idle.pop(worker, None)
        for chain in found.ready:
            chain.home = None
            self._again.append(chain)
        self._waiting -= len(found.ready)
        found.ready.clear()
        found.homed = found.waiting = 0

    def assign(self) -> Iterator[Assignment]:
        """Give every worker that has nothing to do a prompt, if there is one for it."""
        # New streams go to workers that keep none; then each goes on with its own; and only what
        # waits after that is for others to take over.
        for choose, with_own in ((self._new, False), (self._own, True), (self._take_over, False)):
            for worker in list(self._idle):
                if bool(self._workers[worker].ready) != with_own:
                    continue
                chain = choose(worker)
                if chain is not None:
                    del self._idle[worker]
                    yield self._begin(worker, chain)
                elif not self._again:
                    break  # there is nothing for the others either

    def done(self, worker: int) -> None:
        """Note that a worker has made its prompt."""
        chain = self._take(worker)
        chain.left.popleft()
        chain.attempt, chain.avoid = 0, None
        self._idle[worker] = None
        if not chain.left:
            self._leave(chain)
            return
        found = self._workers[worker]
        found.ready.append(chain)
        self._wait(worker, chain, 1)

    def failed(self, worker: int) -> list[int]:
        """Note that a prompt failed for its own sake; return the jobs that are not made for it."""
        chain = self._take(worker)
        self._idle[worker] = None
        return self._give_up(chain)

    def lost(self, worker: int) -> list[int]:
        """Note that a prompt was lost; return the jobs that are given up for it."""
        chain = self._take(worker)
        self._leave(chain)
        self._idle[worker] = None
        chain.attempt += 1
        if chain.left[0][0] in self.stopped:
            return []  # another prompt of its job failed in the meantime
        if chain.attempt > self._rules.retries:
            return self._give_up(chain)
        chain.avoid = worker
        self._again.append(chain)
        return []

    def _chains(self) -> Iterator[_Chain]:
        """Yield what may be begun, in the order of the jobs: one at a time, as it is asked for."""
        streams: dict[str, list[int]] = {}
        for job, plan in enumerate(self._plans):
            if plan.stream is not None:
                streams.setdefault(plan.stream, []).append(job)
        for job, plan in enumerate(self._plans):
            if plan.stream is None:
                for number in range(plan.times):
                    if job not in self.stopped and number not in plan.done:
                        yield _Chain(deque([(job, number)]))
            elif (jobs := streams.pop(plan.stream, None)) is not None:
                left = deque(
                    (each, number)
                    for each in jobs
                    for number in range(self._plans[each].times)
                    if number not in self._plans[each].done
                )
                if left:
                    yield _Chain(left)

    def _new(self, worker: int) -> _Chain | None:
        """Return what was lost elsewhere, or else what was not begun yet."""
        for position, chain in enumerate(self._again):
            if chain.avoid != worker or self._up == 1:
                del self._again[position]
                return chain
        return self._take_fresh()

    def _own(self, worker: int) -> _Chain | None:
        """Return a stream of the worker's own, or a new one while it keeps few."""
        found = self._workers[worker]
        chain = self._new(worker) if found.homed < self._rules.streams else None
        if chain is None:
            chain = found.ready.popleft()
            self._wait(worker, chain, -1)
        return chain

    def _take_fresh(self) -> _Chain | None:
        chain = self._next
        # A job without a stream may have been stopped after this was laid out.
        while chain is not None and chain.left[0][0] in self.stopped:
            chain = next(self._fresh, None)
        self._next = next(self._fresh, None) if chain is not None else None
        return chain

    def _take_over(self, _: int) -> _Chain | None:
        """Return a stream from where most prompts wait, if they are more than may."""
        while self._crowded:
            waiting, worker = self._crowded[0]
            found = self._workers[worker]
            if -waiting != found.waiting or not found.ready:
                heapq.heappop(self._crowded)  # of an earlier moment
                continue
            if found.waiting <= self._rules.queue:
                return None
            chain = found.ready.pop()  # the one that would wait longest
            self._wait(worker, chain, -1)
            return chain
        return None

    def _wait(self, worker: int, chain: _Chain, sign: int) -> None:
        """Note that a stream begins or ceases to wait."""
        found = self._workers[worker]
        found.waiting += sign * len(chain.left)
        self._waiting += sign
        if len(self._crowded) > 4 * len(self._workers) + 64:
            self._crowded = [(-w.waiting, key) for key, w in self._workers.items() if w.ready]
            heapq.heapify(self._crowded)
        elif found.ready:
            heapq.heappush(self._crowded, (-found.waiting, worker))

    def _begin(self, worker: int, chain: _Chain) -> Assignment:
        found = self._workers[worker]
        if chain.home != worker:
            self._leave(chain)
            chain.home = worker
            found.homed += 1
        now = (worker, found.lives)
        warm = chain.served == now
        chain.served = now
        found.busy = chain
        self._running += 1
        job, number = chain.left[0]
        return Assignment(worker, job, number, chain.attempt, warm)

    def _take(self, worker: int) -> _Chain:
        """Take from a worker what it worked on."""
        found = self._workers[worker]
        chain, found.busy = found.busy, None
        if chain is None:
            raise ValueError(f"worker {worker} has no prompt")
        self._running -= 1
        return chain

    def _leave(self, chain: _Chain) -> None:
        """Note that no worker keeps a stream any more."""
        if chain.home is not None:
            self._workers[chain.home].homed -= 1
            chain.home = None

    def _give_up(self, chain: _Chain) -> list[int]:
        self._leave(chain)
        jobs = list(dict.fromkeys(job for job, _ in chain.left))
        self.stopped.update(jobs)
        self._again = deque(c for c in self._again if c.left[0][0] not in self.stopped)
        return jobs
