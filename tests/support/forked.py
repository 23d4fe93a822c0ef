"""Copies of this process: a new one takes ten seconds to import ComfyUI."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def run_forked(work: Callable[[], T], copies: int = 1) -> list[T]:
    """Return what a function returns in so many copies of this process, which run it at once.

    Raises:
        EOFError: If one of them ends before it returns; the reason is in its output.
    """
    fork = multiprocessing.get_context("fork")
    all_ready = fork.Barrier(copies)

    def run(answer: Connection) -> None:
        all_ready.wait(60)
        answer.send(work())

    answers, processes = [], []
    for _ in range(copies):
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=run, args=(sender,))
        process.start()
        sender.close()  # so that the end of the process is the end of the pipe
        answers.append(receiver)
        processes.append(process)
    try:
        return [answer.recv() for answer in answers]
    finally:
        for process in processes:
            process.join()
