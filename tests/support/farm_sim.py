"""Workers in threads around a pretended ComfyUI: real tasks, locks, ledger and revisions.

What is killed here may go on for a moment and still commit, as a machine that is out of reach does.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from farm.server import ServerSettings
from farm.shared_folder import Lock, SharedFolder
from farm.worker import Outcome, Started, Task, Worker
from tools.events import Progress, PromptError, PromptResult


class ActorGone(Exception):
    """What Ray raises when an actor has ended, in short."""


@dataclass
class World:
    """The shared folder, and what every server did to it.

    Args:
        folder: The folder.
        seed: Of all that is random.
        pause: The longest a half of a prompt takes, in seconds.
    """

    folder: SharedFolder
    seed: int = 0
    pause: float = 0.004
    commits: list[str] = field(default_factory=list)
    servers: dict[str, PretendedServer] = field(default_factory=dict)
    bad: Callable[[Mapping[str, Any]], str | None] = lambda prompt: None
    starts: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.guard = threading.Lock()

    def rest(self) -> None:
        time.sleep(self.random.uniform(0, self.pause))

    def commit(self, stream: str, opened: int, prompt: str) -> None:
        """Commit as the pack does: only to the revision that was opened."""
        with self.guard:
            if self.folder.revision(stream) != opened:
                raise PromptError(f'another run has committed to the stream "{stream}" first')
            self.put(stream, opened + 1)
            self.commits.append(prompt)

    def put(self, stream: str, revision: int) -> None:
        path = self.folder.path / "adastate" / "streams" / stream / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"revision": revision}))
        partial.replace(path)


class PretendedServer:
    """What a worker knows of its server.

    Args:
        world: Where it is.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: Lock | None = None
        self.url, self.pid = f"pretended {id(self)}", 0

    @property
    def lock(self) -> str:
        assert self._held is not None
        return self._held.name

    def is_alive(self) -> bool:
        return self._held is not None

    def log_tail(self, lines: int) -> str:
        return "the end"

    def start(self) -> None:
        self.stop()
        if not self._world.starts:
            raise OSError("no such interpreter")
        self._held = self._world.folder.hold("server")
        self.pid += 1
        self._world.servers[self.url] = self

    def stop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()


class PretendedClient:
    """A client whose server makes a prompt by waiting, and then commits it."""

    world: World

    def __init__(self, url: str) -> None:
        self._server = self.world.servers[url]

    def __enter__(self) -> PretendedClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(
        self, prompt: Mapping[str, Any], note: Callable[[Progress], None], timeout: float
    ) -> PromptResult:
        self._alive()
        if (reason := self.world.bad(prompt)) is not None:
            raise PromptError(reason)
        opens = [n for n in prompt.values() if n["class_type"] == "AdaStateOpenStream"]
        name = next(
            n["inputs"]["filename_prefix"] for n in prompt.values() if "fil" in str(n["inputs"])
        )
        stream = opens[0]["inputs"]["name"] if opens else ""
        self.world.rest()  # a server loads models before it opens a stream
        opened = self.world.folder.revision(stream) if stream else 0
        self.world.rest()
        self._alive()
        if stream:
            self.world.commit(stream, opened, name)
        else:
            self.world.commits.append(name)
        self.world.rest()
        self._alive()
        return PromptResult((), frozenset(), {}, ())

    def _alive(self) -> None:
        if not self._server.is_alive():
            raise ConnectionError("the server closed the connection")


class Hand:
    """A worker in a thread, which can be lost as one on another machine is.

    Args:
        world: Where it is.
        beacon: The driver's lock.
    """

    def __init__(self, world: World, beacon: str) -> None:
        self._world, self._beacon = world, beacon
        self._future: Future[Any] = Future()
        self._renew()

    def _renew(self) -> None:
        folder = self._world.folder
        nowhere = Path("unused")
        self._worker = Worker(
            ServerSettings(nowhere, nowhere, folder.path, folder.path / "scratch"), self._beacon
        )
        self.server = PretendedServer(self._world)
        self._worker._server = self.server  # type: ignore[assignment]
        self._thread = ThreadPoolExecutor(1)

    def _call(self, act: Callable[..., Any], *args: Any) -> Future[Any]:
        made: Future[Any] = Future()
        self._future = made

        def run() -> None:
            try:
                result = act(*args)
            except BaseException as error:
                if not made.done():
                    made.set_exception(error)
            else:
                if not made.done():
                    made.set_result(result)

        self._thread.submit(run)
        return made

    def start(self) -> Future[Started]:
        return self._call(self._worker.start)

    def run(self, task: Task) -> Future[Outcome]:
        return self._call(self._worker.run, task)

    def look(self, nodes: tuple[str, ...]) -> Future[float]:
        future: Future[float] = Future()
        future.set_result(0.5)
        return future

    def renew(self) -> None:
        pass

    def kill_server(self) -> None:
        self.server.stop()

    def lose(self) -> None:
        """Tell the driver that the worker is gone, while its server goes on for a moment."""
        old, future = self.server, self._future
        threading.Timer(self._world.random.uniform(0, 0.02), old.stop).start()
        self._renew()
        if not future.done():
            future.set_exception(ActorGone("the actor died"))


def reason_of(error: BaseException) -> tuple[str, bool]:
    return str(error), False


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world without anything in it."""
    folder = SharedFolder(tmp_path / "output")
    folder.prepare()
    made = World(folder)
    monkeypatch.setattr("farm.worker.ComfyClient", PretendedClient)
    monkeypatch.setattr(PretendedClient, "world", made, raising=False)
    return made
