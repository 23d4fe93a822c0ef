"""One revision of a named stream as this process knows it, read from the folder or written there.

A state that was opened or committed holds on to its revision (`origin`), so the next commit finds
what is new by comparing events, and the next open reads only what came after a revision that some
state still holds. Nothing else keeps a revision alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from torch import Tensor

from ..errors import AdaStateError
from ..stream.conditioning import Conditioning
from ..stream.event_log import EventLog
from ..stream.events import ChunkEvent, Event, without_latents
from ..stream.state import StreamState
from .changes import changed
from .event_checks import check_events
from .manifest import Manifest
from .schema import (
    AnyModel,
    ChunkModel,
    GivenLatentsModel,
    Place,
    Reference,
    Refuse,
    event_from_model,
)
from .segments import SegmentReader
from .serialization import conditioning_from
from .stream_log import ConditioningModel, LogLine, LogReplay, chained, parsed, read_lines

Home = tuple[str, int]
"""The segment with the tensors of one event or conditioning, and where in it they end."""


class Revision:
    """A revision, and where its tensors are.

    Args:
        manifest: What the folder says of it.
        state: The state; its origin does not count.
        homes: Homes of the events, None for those without tensors. It may be longer than the log,
            since a commit shares the list with the revision before.
        shelves: Homes of the conditionings that have tensors.
    """

    def __init__(
        self,
        manifest: Manifest,
        state: StreamState,
        homes: list[Home | None],
        shelves: Mapping[str, Home],
    ) -> None:
        self.manifest, self.state = manifest, replace(state, origin=None)
        self.homes, self.shelves = homes, shelves
        _HELD[manifest.chain] = self


_HELD: WeakValueDictionary[str, Revision] = WeakValueDictionary()
"""Revisions that some state holds on to, by the chain of their log."""


def home_of(places: Iterable[Place]) -> Home | None:
    """Return the home of these tensors, the last of which was written last."""
    last = None
    for place in places:
        last = place
    return (last.segment, last.end) if last is not None else None


def read_revision(folder: Path, manifest: Manifest, refuse: Refuse) -> Revision:
    """Build a revision from the folder: from one that is known and what came after it, if any.

    Raises:
        OSError: If a file cannot be read.
        StateFileError: If anything is damaged.
    """
    known = _HELD.get(manifest.chain)
    if known is not None and known.manifest == manifest:
        return known
    base, lines = _unread(folder, manifest, refuse)
    before: Sequence[Event] = base.state.events if base else ()
    replay = LogReplay(before, base.state.conditionings if base else {}, refuse)
    for line in parsed(lines, refuse):
        replay.apply(line)
    newest = replay.newest
    if newest is None or newest.revision != manifest.revision:
        raise refuse("a log that ends at another revision")
    reader = SegmentReader(folder, manifest.segments, refuse)
    try:
        _check(replay, newest, reader, refuse)
        added = _events(replay.added, reader, refuse)
        conditionings = {
            digest: _conditioning(digest, value, reader, refuse)
            for digest, value in replay.conditionings.items()
        }
    finally:
        reader.close()
    events = changed(before, replay.kept, replay.forgotten, added)
    state = StreamState(**newest.values(), events=EventLog.of(events), conditionings=conditionings)
    homes = base.homes[: replay.kept] if base else []
    homes.extend(home_of(_places(model)) for model in replay.added)
    shelves = {
        digest: home
        for digest, value in replay.conditionings.items()
        if (home := _shelf(base, digest, value)) is not None
    }
    return Revision(manifest, state, homes, shelves)


def _unread(
    folder: Path, manifest: Manifest, refuse: Refuse
) -> tuple[Revision | None, list[bytes]]:
    """Return a revision that this one came from, if one is known, and the lines after it."""
    log = manifest.log
    known = [
        revision
        for revision in list(_HELD.values())
        if revision.manifest.stream == manifest.stream
        and revision.manifest.log.file == log.file
        and revision.manifest.log.size <= log.size
    ]
    nearest = max(known, key=lambda revision: revision.manifest.log.size, default=None)
    for base in (nearest, None):
        begin, chain = base.manifest.log.size if base else 0, manifest.stream
        if base is not None:
            chain = base.manifest.chain
        lines = read_lines(folder / log.file, begin, log.size)
        for line in lines:
            chain = chained(chain, line)
        if lines and chain == manifest.chain:
            return base, lines
    raise refuse(f"{log.file} that differs from its digest")


def _check(replay: LogReplay, newest: LogLine, reader: SegmentReader, refuse: Refuse) -> None:
    """Check all that is new before any tensor of it is read."""

    def shape(reference: Reference) -> tuple[str, tuple[int, ...]]:
        if not isinstance(reference, Place):
            raise refuse("a tensor without a place")
        return reader.check(reference)

    # Of what was known before, the last chunk is enough: the rest has been checked with it.
    last: list[AnyModel | Event] = []
    for position in range(replay.kept - 1, -1, -1):
        event = replay.known[position]
        if isinstance(event, ChunkEvent):
            last = [without_latents(event) if position in replay.forgotten else event]
            break
    events = [*last, *replay.added]
    check_events(newest, events, replay.conditionings.keys(), shape, refuse)
    for value in replay.conditionings.values():
        if isinstance(value, ConditioningModel):
            for place in value.tensors.values():
                reader.check(place)


def _events(models: Iterable[AnyModel], reader: SegmentReader, refuse: Refuse) -> list[Event]:
    def tensor(reference: Reference) -> Tensor:
        assert isinstance(reference, Place)  # `_check` saw to that
        return reader.read(reference)

    try:
        return [event_from_model(model, tensor) for model in models]
    except AdaStateError as error:
        raise refuse(f"a value out of range ({error})") from error


def _conditioning(
    digest: str, value: Conditioning | ConditioningModel, reader: SegmentReader, refuse: Refuse
) -> Conditioning:
    if isinstance(value, Conditioning):
        return value
    tensors = {name: reader.read(place) for name, place in value.tensors.items()}
    return conditioning_from(digest, value.structure, tensors, refuse)


def _shelf(
    base: Revision | None, digest: str, value: Conditioning | ConditioningModel
) -> Home | None:
    if isinstance(value, ConditioningModel):
        return home_of(value.tensors.values())
    return base.shelves.get(digest) if base else None


def _places(model: AnyModel) -> list[Place]:
    if not isinstance(model, ChunkModel | GivenLatentsModel):
        return []
    return [x for x in (model.state, model.content, model.sound) if isinstance(x, Place)]
