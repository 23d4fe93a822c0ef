"""A named stream of the reference DiT, and ways to interrupt what is done to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from adastate_core.files.named_stream import commit_stream, open_stream
from adastate_core.files.serialization import state_to_header
from adastate_core.stream.state import StreamState
from tests.support.reference_host import Harness

NAME = "walk"


def text_of(state: StreamState) -> str:
    """Return everything a state is: its header holds the digests of all tensors."""
    return state_to_header(state)[0]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def relay(root: Path, commits: int, start: StreamState, *, harness: Harness | None = None) -> None:
    """Open, add a chunk and commit; without a harness, each time as after a restart."""
    for _ in range(commits):
        worker = harness or Harness()
        commit_stream(root, worker.step(open_stream(root, NAME, start), 1))


def stopping(function: Callable[..., object], calls: int, stop: Callable[[], None]) -> object:
    """Return a function that works a number of times, and then does something else before."""
    seen: list[int] = []

    def wrapped(*args: object, **kwargs: object) -> object:
        seen.append(1)
        if len(seen) > calls:
            stop()
        return function(*args, **kwargs)

    return wrapped


def in_child(act: Callable[[], object]) -> int:
    """Run something in a forked process and return how that ended; negative for a signal."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            act()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
