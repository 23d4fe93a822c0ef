"""The log of a named stream: one line of JSON for each commit, with what was new in it.

A line says how many of the events before it stay, which of them lost their latents, and which
events came after them, with the places of new tensors. All lines together are covered by one
digest, a chain: that of a line is taken over the digest of the lines before it. So whoever knows a
revision reads only the lines after it, and still knows that they belong to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..stream.conditioning import Conditioning
from ..stream.events import LATENTS, Event
from .schema import (
    AnyModel,
    Checked,
    ChunkModel,
    Count,
    EventModel,
    GivenLatentsModel,
    Place,
    Refuse,
    StateFields,
    validated,
)


class ConditioningModel(Checked):
    """The JSON of a `Conditioning`, with the places of its tensors."""

    structure: str
    tensors: dict[str, Place]


class LogLine(StateFields):
    """The JSON of one commit.

    Args:
        revision: The revision it made.
        kept: How many of the first events of the revision before stay.
        forgotten: Ranges of positions among them whose latents are gone: first, and one past last.
        entries: The events that came after them.
        conditionings: Conditionings that are new.
        dropped: Digests of those that are no longer in use.
    """

    revision: Annotated[int, Field(ge=1, le=10**12)]
    kept: Count
    forgotten: tuple[tuple[Count, Count], ...]
    entries: tuple[EventModel, ...]
    conditionings: dict[str, ConditioningModel]
    dropped: tuple[str, ...]


class LogReplay:
    """Events that are rebuilt line by line, from a revision that is known, or from nothing.

    Args:
        events: The events of the known revision.
        conditionings: Its conditionings.
        refuse: Makes the error of a damaged folder.
    """

    def __init__(
        self, events: Sequence[Event], conditionings: Mapping[str, Conditioning], refuse: Refuse
    ) -> None:
        self.known, self.kept = events, len(events)
        self.forgotten: set[int] = set()
        self.added: list[AnyModel] = []
        self.conditionings: dict[str, Conditioning | ConditioningModel] = {**conditionings}
        self.newest: LogLine | None = None
        self._refuse = refuse

    def apply(self, line: LogLine) -> None:
        """Do what one commit did.

        Raises:
            StateFileError: If it does not follow what is there.
        """
        if self.newest is not None and line.revision != self.newest.revision + 1:
            raise self._refuse(f"revision {line.revision} after {self.newest.revision} in its log")
        if line.kept > self.kept + len(self.added):
            raise self._refuse("a log that continues from more than it has")
        self.kept = min(self.kept, line.kept)
        del self.added[line.kept - self.kept :]
        for first, end in line.forgotten:
            if end > line.kept:
                raise self._refuse("a log that trims more than it has")
            for position in range(first, end):
                self._trim(position)
        self.added.extend(line.entries)
        for digest in line.dropped:
            self.conditionings.pop(digest, None)
        self.conditionings.update(line.conditionings)
        self.newest = line

    def _trim(self, position: int) -> None:
        if position < self.kept:
            self.forgotten.add(position)
            return
        model = self.added[position - self.kept]
        if isinstance(model, ChunkModel | GivenLatentsModel):
            gone = model.model_copy(update=dict.fromkeys(LATENTS))
            self.added[position - self.kept] = gone


def chained(before: str, line: bytes) -> str:
    """Return the digest of a log after one more line.

    Args:
        before: The digest before it; the id of the stream for the first line.
        line: The line, with its end.
    """
    return hashlib.sha256(before.encode() + line).hexdigest()


def read_lines(path: Path, begin: int, end: int) -> list[bytes]:
    """Return the lines between two sizes of a log, with their ends.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(end - begin).splitlines(keepends=True)


def parsed(lines: Sequence[bytes], refuse: Refuse) -> list[LogLine]:
    """Check the lines of a log whose digest is right.

    Raises:
        StateFileError: If one is not what a commit writes.
    """
    return [validated(LogLine, line, lambda seen: refuse(f"a log with {seen}")) for line in lines]


def ranges(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Return positions in order as ranges: first, and one past last."""
    found: list[tuple[int, int]] = []
    for position in positions:
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return found
