"""A panel's document as it grows: kept in memory and on disk, told to every page that looks.

Pictures are encoded and written by one thread, in the order the chunks came, while the next one is
made. A disk that is full costs the pictures, never the stream.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from server import PromptServer

from .chunk_files import measured, written
from .panel_document import ChunkEntry, PanelDocument, PanelState, RunPlan
from .panel_store import PanelStore
from .pictures import ChunkPictures

EVENT = "adastate.panel"

_WAITING_AT_MOST = 3
"""Chunks whose pictures may wait to be encoded. More would fill memory on a slow processor."""
_END_WAITS = 20.0
"""Seconds after which the end of a run waits no longer for its last pictures."""
_LARGE_KEPT = 2
"""Large pictures that stay: a page may still be loading the one before the newest."""

_worker = ThreadPoolExecutor(1, "adastate-panel")


class PanelFeed:
    """The document of one panel.

    Args:
        workflow: Id of the workflow.
        node: Id of the node.
    """

    def __init__(self, workflow: str, node: str) -> None:
        self._workflow, self._node = workflow, node
        self._store = PanelStore(workflow, node)
        self._document = PanelDocument(self._store.folder, chunks=self._store.chunks())
        self._lock = threading.Lock()
        self._waiting: deque[Future[None]] = deque()
        self._large: deque[str] = deque()
        self._dropped: set[str] = set()
        """Pictures of chunks that are no longer shown, until pages have heard of that."""
        self.latest: ChunkEntry | None = None
        """The newest chunk, also while its pictures are still encoded."""
        self.times: deque[float] = deque(maxlen=5)
        """Seconds that the newest chunks of this run took."""
        self._warned = False

    @property
    def run(self) -> str:
        """Return the id of the newest run."""
        return self._document.run

    @property
    def state(self) -> PanelState:
        """Return how that run is getting on."""
        return self._document.state

    @property
    def plan(self) -> RunPlan:
        """Return what that run is to make."""
        return self._document.plan

    def document(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        with self._lock:
            return self._document.to_json()

    def begin(
        self, run: str, plan: RunPlan, text: str, history: set[str] | None, note: str = ""
    ) -> None:
        """Begin a run, or a part of it.

        Args:
            run: Id of the run.
            plan: What it is to make.
            text: What to say.
            history: Digests of the chunks that are still part of the stream; None keeps all that
                the plan has a place for.
            note: What an artist should know of the whole run.
        """
        self.wait()
        document = self._document
        with self._lock:
            before = document.chunks
            document.chunks = [
                entry
                for entry in before
                if (entry.index < plan.last_chunk if history is None else entry.latents in history)
            ]
            self._dropped |= _names_of(before) - _names_of(document.chunks)
            document.run, document.plan, document.state = run, plan, "running"
            document.text, document.note = text, note
            document.chunk, document.step = plan.first_chunk, 0
            document.seconds_left = None
            self.latest = document.chunks[-1] if document.chunks else None
            panel = document.to_json()
        self.times.clear()
        self._warned = False
        self._try(lambda: self._store.rewrite(document.chunks))
        self._try(lambda: self._store.write_head(document.head()))
        self._send("begin", panel=panel)

    def ends_with(self, latents: str | None) -> bool:
        """Say whether the newest chunk is this one; None stands for no chunk."""
        return (self.latest.latents if self.latest else None) == latents

    def end_of(self, latents: str) -> float | None:
        """Return the second at which the chunk of these latents ends, if it is shown."""
        if self.latest is not None and self.latest.latents == latents:
            return self.latest.end
        with self._lock:
            chunks = list(self._document.chunks)
        return next((e.end for e in reversed(chunks) if e.latents == latents), None)

    def newest_tile(self, latents: str) -> Path | None:
        """Return the file of the newest chunk's tile, if it is of these latents and has one."""
        newest = self._document.chunks[-1] if self._document.chunks else None
        if newest is None or newest.latents != latents or newest.tile is None:
            return None
        return self._store.path / newest.tile

    def extend(self, plan: RunPlan, note: str = "") -> None:
        """Change what the run is to make, and add what an artist should know of it."""
        with self._lock:
            self._document.plan = plan
            self._document.note = note or self._document.note

    def status(self, text: str, chunk: int, step: int, seconds_left: float | None) -> None:
        """Say how far the run is.

        Args:
            text: What to say.
            chunk: The chunk that is being made.
            step: The step of it.
            seconds_left: How long the rest will take, or None.
        """
        document = self._document
        with self._lock:
            document.text, document.chunk, document.step = text, chunk, step
            document.seconds_left = seconds_left
            status = document.status()
        self._send("status", status=status)

    def add(self, entry: ChunkEntry, pictures: Callable[[], ChunkPictures] | None) -> None:
        """Add a chunk; its pictures are encoded while the next one is made.

        Args:
            entry: The chunk, without what its pictures say.
            pictures: Makes its pictures, in the thread; None if there are none.
        """
        self.latest = entry
        while len(self._waiting) >= _WAITING_AT_MOST:
            wait([self._waiting.popleft()])
        self._waiting.append(_worker.submit(self._finish, entry, pictures))

    def wait(self) -> None:
        """Wait until the pictures of all chunks are done."""
        wait(self._waiting, timeout=_END_WAITS)
        self._waiting.clear()

    def end(self, state: PanelState, text: str) -> None:
        """End the run."""
        self.wait()
        document = self._document
        with self._lock:
            document.state, document.text, document.seconds_left = state, text, None
        self._try(lambda: self._store.write_head(document.head()))
        self._send("end", state=state, text=text)

    def refuse(self, run: str, text: str) -> None:
        """Say why a run failed before it began; what the panel shows of earlier ones stays."""
        document = self._document
        with self._lock:
            document.run, document.state, document.text = run, "failed", text
            document.note = ""
            document.seconds_left = None
            panel = document.to_json()
        self._try(lambda: self._store.write_head(document.head()))
        self._send("begin", panel=panel)

    def _finish(self, entry: ChunkEntry, pictures: Callable[[], ChunkPictures] | None) -> None:
        """Encode the pictures of a chunk and tell of it; in the thread, and it never fails."""
        done = entry

        def encode(shown: ChunkPictures) -> None:
            nonlocal done
            first = next((e.look for e in self._document.chunks if e.look), None)
            done = measured(entry, shown, first)
            done = written(done, shown, self._store, self.run)
            self._keep_few(done.picture)

        if pictures is not None:
            self._try(lambda: encode(pictures()))
        with self._lock:
            self._document.chunks.append(done)
            gone = sorted(self._dropped - _names_of(self._document.chunks))
            self._dropped.clear()
        self._try(lambda: self._store.append(done))
        self._send("chunk", chunk=done.to_json())
        self._try(lambda: self._store.remove(gone))

    def _keep_few(self, large: str | None) -> None:
        """Remove large pictures of chunks before the newest ones."""
        if large is not None and large not in self._large:
            self._large.append(large)
        while len(self._large) > _LARGE_KEPT:
            self._store.remove([self._large.popleft()])

    def _try(self, action: Callable[[], None]) -> None:
        """Do what may fail without harm to the stream; the log says so once a run."""
        try:
            action()
        except Exception as error:
            if not self._warned:
                logging.warning("AdaState: the panel lacks something: %s", error)
            self._warned = True

    def _send(self, what: str, **values: Any) -> None:
        server = getattr(PromptServer, "instance", None)
        place = {"workflow": self._workflow, "node": self._node, "run": self.run}
        if server is not None:
            self._try(lambda: server.send_sync(EVENT, {**place, "what": what, **values}))


def _names_of(chunks: list[ChunkEntry]) -> set[str]:
    names = {name for e in chunks for name in (e.tile, e.hidden, e.picture)}
    return {name for name in names if name is not None}
