"""Write one revision of a named stream: what is new, and then the manifest that makes it count.

New tensors go to the end of the newest segment, new events to the end of the log. Neither touches a
byte that the revision before needs. So before the manifest is replaced, the folder is at that
revision, and afterwards at this one.

A segment is removed when nothing in it is needed any more. Chunks that a rewind took back are at
the end of theirs, and are cut off. A bounded history is trimmed from the front: it fills segments
with few chunks each. Only where rewinds have left the folder with more past than present is
everything written again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..stream.events import Event
from ..stream.state import StreamState
from .atomic import flush_folder
from .changes import Changes, changes, holds_latents
from .manifest import LogFile, Manifest, write_manifest
from .revision import Home, Revision, home_of
from .schema import Place, event_to_json
from .segments import LARGEST, Appender, SegmentWriter
from .serialization import fields_to_json
from .stream_log import chained, ranges

_PARTS = 16
"""Segments that a bounded history is spread over."""

_SEGMENTS = 256
"""Segments beyond which everything is written again, those that are full not counted."""


def write_revision(
    folder: Path, stream: str, revision: int, state: StreamState, base: Revision | None
) -> Revision:
    """Write a revision.

    Args:
        folder: Folder of the stream.
        stream: Id of the stream.
        revision: Its number.
        state: The state.
        base: The revision before, as the folder has it; None writes everything.

    Raises:
        OSError: If anything cannot be written; the folder is as it was before.
        StateFileError: If a tensor cannot be kept.
    """
    if base is not None and _outgrown(base, state):
        base = None
    commit = _Commit(folder, stream, revision, state, base)
    try:
        manifest = commit.write()
        write_manifest(folder, manifest)
    except BaseException:
        commit.undo()
        raise
    return Revision(manifest, state, commit.all_homes(), commit.shelves)


def _outgrown(base: Revision, state: StreamState) -> bool:
    """Say whether the folder holds more past than present."""
    manifest = base.manifest
    full = sum(segment.size for segment in manifest.segments) // LARGEST
    crowded = len(manifest.segments) > _SEGMENTS + full
    return crowded or manifest.log.written > 4 * len(state.events) + 1024


class _Commit:
    """One commit on its way to disk.

    Args:
        folder: Folder of the stream.
        stream: Id of the stream.
        revision: The revision to write.
        state: The state.
        base: The revision before, or None.
    """

    def __init__(
        self, folder: Path, stream: str, revision: int, state: StreamState, base: Revision | None
    ) -> None:
        self._folder, self._stream, self._revision = folder, stream, revision
        self._state, self._base = state, base
        self._changes = changes(base.state.events, state.events) if base else Changes(0)
        self._segments = {s.file: s for s in base.manifest.segments} if base else {}
        self.shelves: dict[str, Home] = {}
        self._homes: list[Home | None] = []
        self._log: Appender | None = None
        self._dropped = self._drop(base) if base else []
        newest = next(reversed(self._segments.values()), None)
        if base is not None and self._changes.kept < len(base.state.events):
            newest = None  # its end is to be cut off, so nothing can go there
        bound = state.history_chunks
        most = max(1, bound // _PARTS) if bound else None
        self._writer = SegmentWriter(folder, revision, newest, most)

    def write(self) -> Manifest:
        """Write and flush everything but the manifest, and return that."""
        line = json.dumps(self._line()).encode() + b"\n"
        for appender in self._writer.appenders:
            appender.finish()
        self._segments.update(self._writer.written)
        base = self._base.manifest if self._base else None
        name = f"log.{self._revision:05d}.{secrets.token_hex(4)}.jsonl"
        self._log = Appender(
            self._folder / (base.log.file if base else name), base.log.size if base else None
        )
        self._log.write(line)
        self._log.finish()
        if base is None or not base.files.keys() >= self._writer.written.keys():
            flush_folder(self._folder)
        written = base.log.written if base else 0
        return Manifest(
            stream=self._stream,
            revision=self._revision,
            chain=chained(base.chain if base else self._stream, line),
            log=LogFile(
                file=self._log.path.name,
                size=self._log.size,
                written=written + len(self._homes),
            ),
            segments=tuple(self._segments.values()),
        )

    def all_homes(self) -> list[Home | None]:
        """Return the homes of all events, of which the older ones are shared with the base."""
        if self._base is None:
            return self._homes
        kept, homes = self._changes.kept, self._base.homes
        if kept < len(homes):
            homes = homes[:kept]
        homes.extend(self._homes)
        return homes

    def undo(self) -> None:
        """Put the files back to what they were."""
        for appender in (*self._writer.appenders, *([self._log] if self._log else [])):
            with suppress(OSError):
                appender.undo()

    def _line(self) -> dict[str, Any]:
        """Write new tensors and return the line of the log."""
        known = self._base.state.conditionings if self._base else {}
        conditionings = {}
        for digest, value in self._state.conditionings.items():
            if digest in known:
                continue
            places = dict(zip(value.tensors, self._add([*value.tensors.values()]), strict=True))
            if (home := home_of(places.values())) is not None:
                self.shelves[digest] = home
            tensors = {name: place.model_dump() for name, place in places.items()}
            conditionings[digest] = {"structure": value.structure, "tensors": tensors}
        new = range(self._changes.kept, len(self._state.events))
        return {
            "revision": self._revision,
            "kept": self._changes.kept,
            "forgotten": ranges(self._changes.forgotten),
            "entries": [self._event(self._state.events[position]) for position in new],
            "conditionings": conditionings,
            "dropped": self._dropped,
            **fields_to_json(self._state),
        }

    def _event(self, event: Event) -> dict[str, Any]:
        """Write the tensors of an event, and return the event as JSON values."""
        found: dict[str, Tensor] = {}

        def refer(name: str, tensor: Tensor) -> None:
            found[name] = tensor

        values = event_to_json(event, refer)
        places = dict(zip(found, self._add([*found.values()]), strict=True))
        self._homes.append(home_of(places.values()))
        return {**values, **{name: place.model_dump() for name, place in places.items()}}

    def _add(self, tensors: Sequence[Tensor]) -> list[Place]:
        return self._writer.add(tensors) if tensors else []

    def _drop(self, base: Revision) -> list[str]:
        """Free what is no longer needed in the segments; return the conditionings among it."""
        kept, events = self._changes.kept, base.state.events
        dropped = []
        self.shelves = dict(base.shelves)
        if self._state.conditionings is not base.state.conditionings:
            dropped = [d for d in base.state.conditionings if d not in self._state.conditionings]
        cut = {home[0] for home in base.homes[kept : len(events)] if home is not None}
        gone = [p for p in range(kept, len(events)) if holds_latents(events[p])]
        homes = [base.homes[position] for position in (*self._changes.forgotten, *gone)]
        for home in (*homes, *(self.shelves.pop(digest, None) for digest in dropped)):
            if home is not None:
                self._free(home[0])
        self._segments = {file: s for file, s in self._segments.items() if s.held}
        for file in cut & self._segments.keys():
            left = (*base.homes[:kept], *self.shelves.values())
            size = max(home[1] for home in left if home is not None and home[0] == file)
            self._segments[file] = self._segments[file].model_copy(update={"size": size})
        return dropped

    def _free(self, file: str) -> None:
        segment = self._segments[file]
        self._segments[file] = segment.model_copy(update={"held": segment.held - 1})
