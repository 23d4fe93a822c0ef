"""The events of a stream as an immutable log that grows at its end.

Appending shares everything before it, so it costs as much to continue a stream of a hundred
thousand chunks as one of ten. Every event has a `Mark`: digests of all that happened up to and
including it since the newest beginning. The keys of the KV cache are made of marks, so that none
needs a pass over the whole log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from .events import ChunkEvent, Event, FlushEvent, GivenLatentsEvent, ResetEvent, is_beginning

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Mark:
    """The digests of a log up to one event.

    Args:
        past: Digest of latents, configs and edits.
        positive: The same with the positive conditionings that the chunks were made with.
        negative: The same with the negative ones.
        fills: Whether a chunk since the beginning has no negative: the next step's is used for it.
        pending: Whether given latents have no chunk after them yet: the next chunk decides under
            which conditioning and in which blocks they are committed.
    """

    past: str = "empty"
    positive: str = ""
    negative: str = ""
    fills: bool = False
    pending: bool = False

    def after(self, event: Event) -> Mark:
        """Return the mark after one more event."""
        before = Mark() if is_beginning(event) else self
        if isinstance(event, ChunkEvent):
            # Noise in a commit is drawn by these; without any, they change nothing.
            drawn = (str(event.seed), str(event.index)) if event.config.commit_sigma else ()
            return Mark(
                past=_digest(
                    before.past,
                    "chunk",
                    event.latents,
                    event.config.text,
                    str(event.held),
                    str(event.frame),
                    event.weights,
                    *drawn,
                ),
                positive=_digest(before.positive, event.positive),
                negative=_digest(before.negative, event.negative or ""),
                fills=before.fills or event.negative is None,
            )
        if isinstance(event, GivenLatentsEvent):
            past = _digest(before.past, "root", event.latents, str(event.frame))
        elif isinstance(event, ResetEvent):
            past = _digest(before.past, "reset", event.scope)
        elif isinstance(event, FlushEvent):
            past = _digest(before.past, "flush", str(event.frames))
        else:  # chunks say whether they are held, a rewind changes nothing
            return before
        pending = before.pending or isinstance(event, GivenLatentsEvent)
        return Mark(past, before.positive, before.negative, before.fills, pending)


class EventLog(Sequence[Event]):
    """The events of a stream, oldest first.

    >>> log = EventLog([ResetEvent("anchor")])
    >>> longer = log.append(FlushEvent(frames=1))
    >>> len(log), len(longer), longer[-1]
    (1, 2, FlushEvent(frames=1))
    >>> longer.mark == log.mark  # it is another cache
    False

    Args:
        events: The first events.
    """

    __slots__ = ("_full", "_tail")

    def __init__(self, events: Iterable[Event] = ()) -> None:
        marked, mark = [], Mark()
        for event in events:
            mark = mark.after(event)
            marked.append((event, mark))
        cut = len(marked) - len(marked) % _BLOCK
        blocks = range(0, cut, _BLOCK)
        self._full = tuple(tuple(marked[start : start + _BLOCK]) for start in blocks)
        self._tail = tuple(marked[cut:])

    @classmethod
    def of(cls, events: Iterable[Event]) -> EventLog:
        """Return a log of these events; a log stays as it is."""
        return events if isinstance(events, EventLog) else cls(events)

    def append(self, event: Event) -> EventLog:
        """Return the log with one more event."""
        tail = (*self._tail, (event, self.mark.after(event)))
        if len(tail) < _BLOCK:
            return self._made(self._full, tail)
        return self._made((*self._full, tail), ())

    def replaced(self, position: int, event: Event) -> EventLog:
        """Return the log with another event of the same meaning, such as one without latents.

        Marks stay as they are: what happened is the same.
        """
        block, place = divmod(position, _BLOCK)
        changed = list(self._tail if block == len(self._full) else self._full[block])
        changed[place] = (event, changed[place][1])
        if block == len(self._full):
            return self._made(self._full, tuple(changed))
        full = (*self._full[:block], tuple(changed), *self._full[block + 1 :])
        return self._made(full, self._tail)

    def first(self, count: int) -> EventLog:
        """Return the log of the first `count` events."""
        block, place = divmod(count, _BLOCK)
        if block >= len(self._full):
            return self._made(self._full, self._tail[:place])
        return self._made(self._full[:block], self._full[block][:place])

    def differing(self, other: EventLog) -> Iterator[int]:
        """Yield the positions that both logs have and at which they have different objects.

        What they share is skipped without a look at its events.
        """
        blocks, theirs = (*self._full, self._tail), (*other._full, other._tail)
        for number, (mine, its) in enumerate(zip(blocks, theirs, strict=False)):
            if mine is not its:
                pairs = enumerate(zip(mine, its, strict=False), start=number * _BLOCK)
                yield from (place for place, (a, b) in pairs if a[0] is not b[0])

    @property
    def mark(self) -> Mark:
        """Return the mark after the newest event."""
        return self.mark_at(len(self) - 1)

    def mark_at(self, position: int) -> Mark:
        """Return the mark after an event; that of an empty log for -1."""
        return self._item(position)[1] if position >= 0 else Mark()

    def __len__(self) -> int:
        return len(self._full) * _BLOCK + len(self._tail)

    @overload
    def __getitem__(self, position: int) -> Event: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, position: int | slice) -> Event | tuple[Event, ...]:
        if isinstance(position, slice):
            return tuple(self._item(i)[0] for i in range(len(self))[position])
        return self._item(range(len(self))[position])[0]

    def __iter__(self) -> Iterator[Event]:
        for block in (*self._full, self._tail):
            for event, _ in block:
                yield event

    def __add__(self, events: Iterable[Event]) -> EventLog:
        log = self
        for event in events:
            log = log.append(event)
        return log

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventLog) and self._items() == other._items()

    __hash__ = None  # type: ignore[assignment]  # events hold tensors

    def __repr__(self) -> str:
        return f"EventLog({len(self)} events)"

    def _items(self) -> tuple[object, ...]:
        return self._full, self._tail

    def _item(self, position: int) -> tuple[Event, Mark]:
        block, place = divmod(position, _BLOCK)
        return (self._tail if block == len(self._full) else self._full[block])[place]

    @classmethod
    def _made(
        cls,
        full: tuple[tuple[tuple[Event, Mark], ...], ...],
        tail: tuple[tuple[Event, Mark], ...],
    ) -> EventLog:
        log = cls.__new__(cls)
        log._full, log._tail = full, tail
        return log


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
