"""What a stream still has of its chunks: all of them, or the newest ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from .conditioning import Conditioning
from .event_log import EventLog
from .events import ChunkEvent, Event, GivenLatentsEvent, without_latents


def kept_chunks(events: Sequence[Event]) -> Iterator[tuple[int, ChunkEvent]]:
    """Yield the chunks whose latents are kept, with their positions, newest first."""
    for position in range(len(events) - 1, -1, -1):
        event = events[position]
        if isinstance(event, ChunkEvent):
            if event.content is None:
                return  # older latents were trimmed before
            yield position, event


def trimmed(events: EventLog, history_chunks: int) -> EventLog:
    """Return the events without the latents of chunks beyond the bounded history.

    Given latents are trimmed with the chunks that were made from them, not before: a rewind may go
    back to where they count.
    """
    if history_chunks == 0:
        return events
    old = [position for position, _ in islice(kept_chunks(events), history_chunks, None)]
    if not old:
        return events
    for position in range(old[0], -1, -1):
        event = events[position]
        if isinstance(event, ChunkEvent) and event.content is None:
            break
        if isinstance(event, ChunkEvent | GivenLatentsEvent):
            events = events.replaced(position, without_latents(event))
    return events


def pruned(conditionings: Mapping[str, Conditioning], events: EventLog) -> dict[str, Conditioning]:
    """Return the conditionings that a chunk whose latents are kept was made under."""
    used = {digest for _, e in kept_chunks(events) for digest in (e.positive, e.negative)}
    return {digest: value for digest, value in conditionings.items() if digest in used}
