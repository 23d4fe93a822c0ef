"""What a person sees while a farm works: a bar for all, and one for every job that moves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from farm.jobs import Job
from farm.ledger import Entry

_EVERY = 10.0
"""Seconds between the lines where nobody watches a terminal."""
_AROUND = 6
"""Lines of a terminal that are left to what is said."""


class Bars:
    """Bars on a terminal, a line now and then elsewhere; a context manager.

    Args:
        jobs: The jobs.
        entries: What is done of them.
        console: Where to draw.
    """

    def __init__(self, jobs: Sequence[Job], entries: Mapping[str, Entry], console: Console) -> None:
        self._jobs, self._console = jobs, console
        self._done = [float(_chunks(job, entries.get(job.name))) for job in jobs]
        self._total = sum(job.times * job.chunks for job in jobs)
        self._before = sum(self._done)
        self._now = self._before
        self._begin = self._said = time.monotonic()
        self._bars: dict[int, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=4,
        )
        self._all = self._progress.add_task("all", total=self._total, completed=int(self._now))

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if not self._console.is_terminal:
            self._say()

    def advanced(self, job: int, chunks: float) -> None:
        """A job has made so many chunks more, which may be a part of one."""
        self._done[job] += chunks
        self._now += chunks
        if self._console.is_terminal:
            self._draw(job)
            self._progress.update(self._all, completed=round(self._now, 1))

    def told(self, text: str) -> None:
        """Print something that a person should know, above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tick(self) -> None:
        """Print a line, if it is time for one and there are no bars."""
        if not self._console.is_terminal and time.monotonic() - self._said >= _EVERY:
            self._say()

    def _draw(self, job: int) -> None:
        """Move the bar of a job; one that is done makes room for others."""
        total = self._jobs[job].times * self._jobs[job].chunks
        if job not in self._bars:
            if len(self._bars) >= max(1, self._console.height - _AROUND):
                return
            name = self._jobs[job].name
            self._bars[job] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[job], completed=round(self._done[job], 1))
        if self._done[job] >= total - 1e-6:
            self._progress.remove_task(self._bars.pop(job))

    def _say(self) -> None:
        self._said = time.monotonic()
        rate = (self._now - self._before) / max(self._said - self._begin, 1e-9)
        self._console.print(
            f"{self._now:.0f} of {self._total} chunks, {rate:.2f} a second",
            highlight=False,
        )


class _Rate(ProgressColumn):
    """Chunks a second."""

    def render(self, task: Task) -> Text:
        """Return the text of a bar."""
        return Text(f"{task.speed:.2f} chunks/s" if task.speed else "")


def _chunks(job: Job, entry: Entry | None) -> int:
    return job.chunks * entry.done_of(job.times) if entry is not None else 0
