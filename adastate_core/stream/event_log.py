"""The record of a stream as an immutable log that grows at its end.

Appending shares everything before it, so a stream of a hundred thousand chunks costs as much to
go on with as one of ten. Every entry stands beside a `Mark`: digests of all that happened up to and
including it since the stream last began anew. The keys of the attention cache are made of marks, so
nobody has to walk a record from its beginning to know one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from .events import ChunkEntry, Entry, FlushEntry, ResetEntry, RootEntry, begins_anew

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Mark:
    """The digests of a record up to one entry.

    Args:
        past: Digest of latents, configs and edits.
        positive: The same with the positive conditionings that the chunks were made with.
        negative: The same with the negative ones.
        fills: Whether a chunk since the beginning has no negative, which the next step then fills.
        pending: Whether given latents have no chunk after them yet: the next chunk decides under
            which conditioning and in which blocks they are committed.
    """

    past: str = "empty"
    positive: str = ""
    negative: str = ""
    fills: bool = False
    pending: bool = False

    def after(self, entry: Entry) -> Mark:
        """Return the mark after one more entry."""
        before = Mark() if begins_anew(entry) else self
        if isinstance(entry, ChunkEntry):
            return Mark(
                past=_digest(
                    before.past, "chunk", entry.latents, entry.config.text, str(entry.held),
                    str(entry.frame), entry.weights,
                ),
                positive=_digest(before.positive, entry.positive),
                negative=_digest(before.negative, entry.negative or ""),
                fills=before.fills or entry.negative is None,
            )  # fmt: skip
        if isinstance(entry, RootEntry):
            past = _digest(before.past, "root", entry.latents, str(entry.frame))
        elif isinstance(entry, ResetEntry):
            past = _digest(before.past, "reset", entry.scope)
        elif isinstance(entry, FlushEntry):
            past = _digest(before.past, "flush", str(entry.frames))
        else:  # a hold is recorded with the chunks that it holds, a rewind changes nothing
            return before
        pending = before.pending or isinstance(entry, RootEntry)
        return Mark(past, before.positive, before.negative, before.fills, pending)


class EventLog(Sequence[Entry]):
    """The entries of a stream, oldest first.

    Args:
        entries: The first entries.
    """

    __slots__ = ("_full", "_tail")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        marked, mark = [], Mark()
        for entry in entries:
            mark = mark.after(entry)
            marked.append((entry, mark))
        cut = len(marked) - len(marked) % _BLOCK
        blocks = range(0, cut, _BLOCK)
        self._full = tuple(tuple(marked[start : start + _BLOCK]) for start in blocks)
        self._tail = tuple(marked[cut:])

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> EventLog:
        """Return a log of these entries; a log stays as it is."""
        return entries if isinstance(entries, EventLog) else cls(entries)

    def append(self, entry: Entry) -> EventLog:
        """Return the log with one more entry."""
        tail = (*self._tail, (entry, self.mark.after(entry)))
        if len(tail) < _BLOCK:
            return self._made(self._full, tail)
        return self._made((*self._full, tail), ())

    def replaced(self, position: int, entry: Entry) -> EventLog:
        """Return the log with another entry of the same meaning, such as one without latents.

        Marks stay as they are: what happened is the same.
        """
        block, place = divmod(position, _BLOCK)
        changed = list(self._tail if block == len(self._full) else self._full[block])
        changed[place] = (entry, changed[place][1])
        if block == len(self._full):
            return self._made(self._full, tuple(changed))
        full = (*self._full[:block], tuple(changed), *self._full[block + 1 :])
        return self._made(full, self._tail)

    def first(self, count: int) -> EventLog:
        """Return the log of the first `count` entries."""
        block, place = divmod(count, _BLOCK)
        if block >= len(self._full):
            return self._made(self._full, self._tail[:place])
        return self._made(self._full[:block], self._full[block][:place])

    def differing(self, other: EventLog) -> Iterator[int]:
        """Yield the positions that both have and at which they have different objects.

        What they share is passed over without a look at its entries.
        """
        blocks, theirs = (*self._full, self._tail), (*other._full, other._tail)
        for number, (mine, its) in enumerate(zip(blocks, theirs, strict=False)):
            if mine is not its:
                pairs = enumerate(zip(mine, its, strict=False), start=number * _BLOCK)
                yield from (place for place, (a, b) in pairs if a[0] is not b[0])

    @property
    def mark(self) -> Mark:
        """Return the mark after the newest entry."""
        return self.mark_at(len(self) - 1)

    def mark_at(self, position: int) -> Mark:
        """Return the mark after an entry; that of an empty record for -1."""
        return self._item(position)[1] if position >= 0 else Mark()

    def __len__(self) -> int:
        return len(self._full) * _BLOCK + len(self._tail)

    @overload
    def __getitem__(self, position: int) -> Entry: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, position: int | slice) -> Entry | tuple[Entry, ...]:
        if isinstance(position, slice):
            return tuple(self._item(i)[0] for i in range(len(self))[position])
        return self._item(range(len(self))[position])[0]

    def __iter__(self) -> Iterator[Entry]:
        for block in (*self._full, self._tail):
            for entry, _ in block:
                yield entry

    def __add__(self, entries: Iterable[Entry]) -> EventLog:
        log = self
        for entry in entries:
            log = log.append(entry)
        return log

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventLog) and self._items() == other._items()

    __hash__ = None  # type: ignore[assignment]  # entries hold tensors

    def __repr__(self) -> str:
        return f"EventLog({len(self)} entries)"

    def _items(self) -> tuple[object, ...]:
        return self._full, self._tail

    def _item(self, position: int) -> tuple[Entry, Mark]:
        block, place = divmod(position, _BLOCK)
        return (self._tail if block == len(self._full) else self._full[block])[place]

    @classmethod
    def _made(
        cls,
        full: tuple[tuple[tuple[Entry, Mark], ...], ...],
        tail: tuple[tuple[Entry, Mark], ...],
    ) -> EventLog:
        log = cls.__new__(cls)
        log._full, log._tail = full, tail
        return log


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
