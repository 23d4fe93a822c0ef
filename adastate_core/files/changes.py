"""What changed in the event log between two states of a stream, found without any tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ..stream.event_log import EventLog
from ..stream.events import ChunkEvent, Event, GivenLatentsEvent, without_latents


@dataclass(frozen=True, slots=True)
class Changes:
    """How an event log came from an older one.

    Args:
        kept: How many of the first events it still has.
        forgotten: Positions among them whose latents are gone, in order.
    """

    kept: int
    forgotten: tuple[int, ...] = ()


def changes(before: EventLog, after: EventLog) -> Changes:
    """Compare two logs; events that nothing touched in between are the same objects."""
    kept = min(len(before), len(after))
    forgotten = []
    for position in before.differing(after):
        old, new = before[position], after[position]
        if _is_trimmed(old, new):
            forgotten.append(position)
        elif not _equal(old, new):
            kept = position
            break
    return Changes(kept, tuple(forgotten))


def changed(
    before: Sequence[Event], kept: int, forgotten: Collection[int], added: Iterable[Event]
) -> Sequence[Event]:
    """Return the events after such changes to an older log."""
    if isinstance(before, EventLog) and kept == len(before) and not forgotten:
        return before + added  # a log shares what it continues
    first = (without_latents(e) if p in forgotten else e for p, e in enumerate(before[:kept]))
    return (*first, *added)


def holds_latents(event: Event) -> bool:
    """Say whether an event has tensors."""
    if isinstance(event, ChunkEvent | GivenLatentsEvent):
        return event.state is not None or event.content is not None
    return False


def _is_trimmed(old: Event, new: Event) -> bool:
    """Say whether an event is an older one without its latents."""
    return holds_latents(old) and not holds_latents(new) and without_latents(old) == new


def _equal(old: Event, new: Event) -> bool:
    """Say whether two events without latents are the same; others are not compared."""
    return not holds_latents(old) and not holds_latents(new) and old == new
