"""What a run did, as a table and as JSON; and how far a list of jobs is, by its ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from farm.driver import Report
from farm.jobs import Job
from farm.ledger import Entry


def as_json(report: Report, jobs: Sequence[Job], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return what a run did as JSON values; times are in seconds."""
    totals = {
        name: getattr(report, name)
        for name in ("wall", "prompts", "chunks", "found", "retries", "replays", "stopped")
    }
    return {
        **totals,
        "chunks_per_second": report.chunks / report.wall if report.wall else 0.0,
        "workers": [dict(vars(worker)) for worker in report.workers],
        "jobs": [
            {
                "name": job.name,
                "stream": job.stream,
                "times": job.times,
                "done": _done(job, entries),
                "failed": report.failed.get(job.name),
            }
            for job in jobs
        ],
    }


def show_report(console: Console, report: Report) -> None:
    """Print what each worker did, and all of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("worker")
    for title in ("prompts", "chunks", "busy", "starts"):
        table.add_column(title, justify="right")
    for number, worker in enumerate(report.workers):
        share = worker.busy / report.wall if report.wall else 0.0
        cells = (worker.prompts, worker.chunks, f"{share:.0%}", worker.starts)
        table.add_row(f"{number} {worker.host}".strip(), *map(str, cells))
    console.print(table)
    rate = report.chunks / report.wall if report.wall else 0.0
    console.print(
        f"{report.prompts} prompts, {report.chunks} chunks in {report.wall:.1f} s, {rate:.2f} "
        f"chunks a second; {report.retries} made again, {report.found} of them found done; "
        f"{report.replays} replays",
        highlight=False,
    )


def show_jobs(
    console: Console, jobs: Sequence[Job], entries: Mapping[str, Entry], *, most: int = 1000
) -> None:
    """Print how far the jobs are, those that are not done first if there are too many."""
    table = Table(box=None, pad_edge=False)
    table.add_column("job")
    table.add_column("done", justify="right")
    table.add_column("stream")
    table.add_column("", overflow="fold")
    left = sorted(jobs, key=lambda job: _done(job, entries) == job.times)
    shown = set(map(id, left[:most]))
    for job in jobs:
        if id(job) not in shown:
            continue
        entry = entries.get(job.name)
        failed = entry.failed if entry is not None else ""
        done = f"{_done(job, entries)}/{job.times}"
        table.add_row(job.name, done, job.stream or "", failed)
    console.print(table)
    total = sum(job.times for job in jobs)
    made = total - prompts_left(jobs, entries)
    console.print(f"{made} of {total} prompts are done", highlight=False)


def prompts_left(jobs: Sequence[Job], entries: Mapping[str, Entry]) -> int:
    """Return how many prompts are not done."""
    return sum(job.times - _done(job, entries) for job in jobs)


def _done(job: Job, entries: Mapping[str, Entry]) -> int:
    entry = entries.get(job.name)
    return entry.done_of(job.times) if entry is not None else 0
