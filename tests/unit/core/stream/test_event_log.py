"""The record of a stream: a log that shares its past and knows its own digests."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adastate_core.config import StreamConfig
from adastate_core.stream.event_log import EventLog, Mark
from adastate_core.stream.events import (
    ChunkEvent,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    RewindEvent,
)

CONFIG = StreamConfig()


def chunk(index: int, **changes: object) -> ChunkEvent:
    return replace(
        ChunkEvent(index, 0, "positive", None, "", CONFIG, latents=f"{index}", frame=3 * index),
        **changes,  # type: ignore[arg-type]
    )


def log_of(count: int) -> EventLog:
    return EventLog(chunk(i) for i in range(count))


@settings(deadline=None)  # a slow machine is no failure
@given(count=st.sampled_from([0, 1, 255, 256, 257, 600]), data=st.data())
def test_it_is_the_sequence_of_what_was_appended(count: int, data: st.DataObject) -> None:
    events: list[Event] = [chunk(i) for i in range(count)]
    log = EventLog()
    for event in events:
        log = log.append(event)
    assert list(log) == events
    assert len(log) == count
    assert log[:] == tuple(events)
    assert list(reversed(log)) == events[::-1]
    assert EventLog(events).mark == log.mark
    if count:
        place = data.draw(st.integers(0, count - 1))
        assert log[place] == log[place - count] == events[place]
        assert list(log.first(place)) == events[:place]
        assert log.first(place).append(events[place]).mark == log.mark_at(place)
        forgotten = replace(events[place], frame=-1)
        changed = log.replaced(place, forgotten)
        assert list(changed) == [*events[:place], forgotten, *events[place + 1 :]]
        assert changed.mark == log.mark
        assert list(log) == events


def test_appending_shares_the_past() -> None:
    log = log_of(5000)
    longer = log.append(chunk(5000))
    assert longer._full is log._full


@settings(deadline=None)  # a slow machine is no failure
@given(count=st.sampled_from([1, 256, 700]), data=st.data())
def test_what_differs_is_found_in_blocks(count: int, data: st.DataObject) -> None:
    log = log_of(count)
    places = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    other = log
    for place in places:
        other = other.replaced(place, replace(log[place], frame=-1))
    assert list(log.differing(other)) == sorted(places)
    assert list(log.differing(log.append(chunk(count)))) == []
    kept = data.draw(st.integers(0, count))
    assert [p for p in log.differing(other.first(kept)) if p < kept] == sorted(
        place for place in places if place < kept
    )


def test_everything_that_the_cache_depends_on_changes_the_mark() -> None:
    ones, twos = torch.ones(1, 4, 1, 2, 3), torch.full((1, 4, 1, 2, 3), 2.0)
    last: list[Event] = [
        chunk(1),
        chunk(1, latents="other"),
        chunk(1, config=StreamConfig(window_frames=2)),
        chunk(1, held=True),
        chunk(1, frame=7),
        chunk(1, weights="lora"),
        chunk(1, positive="other"),
        chunk(1, negative="negative"),
        GivenLatentsEvent("start", state=ones),
        GivenLatentsEvent("start", content=ones),
        GivenLatentsEvent("start", raw=True, content=ones),
        GivenLatentsEvent("restart", content=ones),
        GivenLatentsEvent("start", content=twos),
        GivenLatentsEvent("start", frame=2, content=ones),
        GivenLatentsEvent("reset", state=ones, content=twos),
        GivenLatentsEvent("reset", state=twos, content=ones),
        ResetEvent("anchor"),
        ResetEvent("window"),
        ResetEvent("all"),
        FlushEvent(1),
        FlushEvent(2),
    ]
    marks = [EventLog([chunk(0), event]).mark for event in last]
    assert len(set(marks)) == len(marks)


def test_notes_change_nothing_and_a_beginning_forgets() -> None:
    log = EventLog([chunk(0)])
    assert log.append(HoldEvent(2)).append(RewindEvent(0)).mark == log.mark
    everything = ResetEvent("all")
    assert log.append(everything).mark == EventLog([chunk(5), everything]).mark
    assert EventLog().mark == Mark()
