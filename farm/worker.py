"""A worker: one ComfyUI server, and what is asked of it, one prompt at a time.

`Worker` is plain Python; `cluster.py` makes an actor of Ray from it.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import requests

from farm.errors import FarmError
from farm.server import OwnedServer, ServerSettings
from farm.shared_folder import SharedFolder
from tools.client import ComfyClient
from tools.events import Progress, PromptError, PromptResult

_LOG_LINES = 15
_PATIENCE = 90.0
"""Seconds that a server which was given up may take to end: the lease of NFS, by default 90 s."""


@dataclass(frozen=True)
class Task:
    """One prompt to make.

    Args:
        prompt: In API format.
        stream: The named stream that it continues.
        began_at: The revision of the stream that it continues.
        again: Whether it was begun before.
        after: The lock of a server that may still be at work on it.
        timeout: Seconds that it may take.
        nodes: The nodes that make chunks.
    """

    prompt: dict[str, dict[str, Any]]
    stream: str | None
    began_at: int
    again: bool
    after: str | None
    timeout: float
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Started:
    """A worker that is ready.

    Args:
        host: Its machine.
        pid: Its process.
        server_pid: The process of its server.
        lock: The lock that lives as long as the server.
        url: Address of the server, on its machine.
    """

    host: str
    pid: int
    server_pid: int
    lock: str
    url: str


@dataclass(frozen=True)
class Outcome:
    """How a prompt ended.

    Args:
        kind: `done`; `failed`, for its own sake: it would fail again; or `lost`, with its server.
        revision: Revision of its stream afterwards, 0 without one.
        made: Whether it was made here, and not found to be done by a server that was lost.
        seconds: How long that took.
        files: What it saved, relative to the output folder.
        reason: Why it is not done, in one sentence.
    """

    kind: Literal["done", "failed", "lost"]
    revision: int = 0
    made: bool = True
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    reason: str = ""


class Worker:
    """One ComfyUI server, started, watched and restarted.

    Args:
        settings: What its server is.
        beacon: A lock that the driver holds: all machines have to see it.
    """

    def __init__(self, settings: ServerSettings, beacon: str) -> None:
        self._folder = SharedFolder(settings.output)
        self._beacon = beacon
        settings.scratch.mkdir(parents=True, exist_ok=True)
        self._base = Path(tempfile.mkdtemp(prefix="worker-", dir=settings.scratch))
        self._server = OwnedServer(settings, self._base)
        self._progress = Progress()

    def start(self) -> Started:
        """Start the server unless it runs.

        Raises:
            FarmError: If this machine does not see the shared folder, or ComfyUI does not start.
        """
        if not self._folder.is_held(self._beacon):
            raise FarmError(
                f"{platform.node()} does not see the locks of the other machines in "
                f"{self._folder.path}: mount one file system there that has locks, such as NFS "
                "version 4, under the same path on all of them."
            )
        if not self._server.is_alive():
            try:
                self._server.start()
            except (RuntimeError, OSError) as error:  # ServerError is a RuntimeError
                raise FarmError(f"ComfyUI does not start on {platform.node()}: {error}") from error
        server = self._server
        return Started(platform.node(), os.getpid(), server.pid, server.lock, server.url)

    def run(self, task: Task) -> Outcome:
        """Make a prompt, unless the stream says that it was made."""
        begin = time.monotonic()
        self._progress = Progress()
        try:
            early = self._before(task)
            if early is not None:
                return early
            with ComfyClient(self._server.url) as client:
                result = client.run(task.prompt, self._note, task.timeout)
        except (PromptError, FarmError) as error:
            return self._refused(task, str(error))
        except (OSError, requests.RequestException) as error:  # a timeout is an OSError
            return Outcome("lost", reason=self._lost(error))
        revision = self._folder.revision(task.stream) if task.stream is not None else 0
        if task.stream is not None and revision != task.began_at + 1:
            return Outcome("failed", revision, reason=_moved(task, revision))
        return Outcome("done", revision, True, time.monotonic() - begin, _files(result))

    def chunks(self, nodes: tuple[str, ...]) -> float:
        """Return how far the nodes that make chunks are in the prompt that runs, 0 to 1."""
        running = self._progress.nodes
        shares = [running[node].fraction for node in nodes if node in running]
        return sum(shares) / len(nodes) if nodes else 0.0

    def stop(self) -> None:
        """End the server and remove its folders."""
        self._server.stop()
        shutil.rmtree(self._base, ignore_errors=True)

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _before(self, task: Task) -> Outcome | None:
        """Return how a prompt has ended already, None if it has to be made.

        Raises:
            FarmError: If the stream is not where the prompt has to begin.
        """
        if task.after is not None and not self._folder.wait_until_free(task.after, _PATIENCE):
            return Outcome("lost", reason="the server that was given up has not ended yet")
        if task.stream is None:
            return None
        revision = self._folder.revision(task.stream)
        if task.again and revision == task.began_at + 1:
            return Outcome("done", revision, made=False)
        if revision != task.began_at:
            return Outcome("failed", revision, reason=_moved(task, revision))
        return None

    def _refused(self, task: Task, reason: str) -> Outcome:
        """Return the outcome of a prompt that failed while its server goes on."""
        revision = self._folder.revision(task.stream) if task.stream is not None else 0
        if task.again and revision == task.began_at + 1:
            # The server that was given up committed in the meantime, so this commit was refused.
            return Outcome("done", revision, made=False)
        return Outcome("failed", revision, reason=reason)

    def _lost(self, error: Exception) -> str:
        """End the server, whatever is left of it, and say what happened."""
        alive, tail = self._server.is_alive(), self._server.log_tail(_LOG_LINES)
        self._server.stop()
        what = f"ComfyUI does not answer ({error})" if alive else "ComfyUI has ended"
        return f"{what}; the end of its log:\n{tail}"


def _moved(task: Task, revision: int) -> str:
    return (
        f'The stream "{task.stream}" is at revision {revision}, and this prompt continued from '
        f"{task.began_at}: something else changes it; let one job list have it, and start again."
    )


def _files(result: PromptResult) -> tuple[str, ...]:
    return tuple(
        f"{path.relative_to('output')}"
        for path in result.files(Path())
        if path.parts[0] == "output"
    )
