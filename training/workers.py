"""Trains with several one-thread processes on shared parameters, none waiting for another.

On a few shared cores this beats threads inside operators: a busy neighbour slows one worker down
and not every barrier of all of them. Updates race now and then, which descent forgives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

Job = TypeVar("Job")
Made = TypeVar("Made")

# A shared vector: updates so far (of all workers) and seconds of training so far.
Progress = Tensor


def new_progress(step: int, spent: float) -> Progress:
    return torch.tensor([step, spent], dtype=torch.float64).share_memory_()


def run_workers(count: int, work: Callable[..., None], *arguments: object) -> None:
    """Run ``work(rank, *arguments)`` in ``count`` processes and wait for all of them.

    Raises:
        RuntimeError: A worker failed; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=one_thread, args=(work, rank, *arguments)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"a training worker ended with code {process.exitcode}")
    finally:
        for process in processes:
            process.terminate()


def one_thread(work: Callable[..., None], *arguments: object) -> None:
    torch.set_num_threads(1)
    work(*arguments)


def run_jobs(count: int, work: Callable[[Job], Made], jobs: Sequence[Job]) -> Iterator[Made]:
    """Yield ``work(job)`` of every job in order, made by ``count`` processes, or by this one for 1.

    Raises:
        BrokenProcessPool: A process ended; what is not done is not done.
    """
    if count == 1:
        yield from map(work, jobs)
        return
    # Unlike `multiprocessing.Pool`, it does not wait for ever for a process that ended.
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, jobs)
