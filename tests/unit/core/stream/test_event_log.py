"""The record of a stream: a log that shares its past and knows its own digests."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from adastate_core.config import StreamConfig
from adastate_core.stream.event_log import EventLog, Mark
from adastate_core.stream.events import (
    ChunkEntry,
    Entry,
    FlushEntry,
    HoldEntry,
    ResetEntry,
    RewindEntry,
    RootEntry,
)

CONFIG = StreamConfig()


def chunk(index: int, **changes: object) -> ChunkEntry:
    return replace(
        ChunkEntry(index, 0, "positive", None, "", CONFIG, latents=f"{index}", frame=3 * index),
        **changes,  # type: ignore[arg-type]
    )


def log_of(count: int) -> EventLog:
    return EventLog(chunk(i) for i in range(count))


@given(count=st.sampled_from([0, 1, 255, 256, 257, 600]), data=st.data())
def test_it_is_the_sequence_of_what_was_appended(count: int, data: st.DataObject) -> None:
    entries: list[Entry] = [chunk(i) for i in range(count)]
    log = EventLog()
    for entry in entries:
        log = log.append(entry)
    assert list(log) == entries
    assert len(log) == count
    assert log[:] == tuple(entries)
    assert list(reversed(log)) == entries[::-1]
    assert EventLog(entries).mark == log.mark
    if count:
        place = data.draw(st.integers(0, count - 1))
        assert log[place] == log[place - count] == entries[place]
        assert list(log.first(place)) == entries[:place]
        assert log.first(place).append(entries[place]).mark == log.mark_at(place)
        forgotten = replace(entries[place], frame=-1)
        changed = log.replaced(place, forgotten)
        assert list(changed) == [*entries[:place], forgotten, *entries[place + 1 :]]
        assert changed.mark == log.mark
        assert list(log) == entries


def test_appending_shares_the_past() -> None:
    log = log_of(5000)
    longer = log.append(chunk(5000))
    assert longer._full is log._full


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
    last: list[Entry] = [
        chunk(1),
        chunk(1, latents="other"),
        chunk(1, config=StreamConfig(window_frames=2)),
        chunk(1, held=True),
        chunk(1, frame=7),
        chunk(1, weights="lora"),
        chunk(1, positive="other"),
        chunk(1, negative="negative"),
        RootEntry("start", state=ones),
        RootEntry("start", content=ones),
        RootEntry("start", raw=True, content=ones),
        RootEntry("restart", content=ones),
        RootEntry("start", content=twos),
        RootEntry("start", frame=2, content=ones),
        RootEntry("reset", state=ones, content=twos),
        RootEntry("reset", state=twos, content=ones),
        ResetEntry("anchor"),
        ResetEntry("window"),
        ResetEntry("all"),
        FlushEntry(1),
        FlushEntry(2),
    ]
    marks = [EventLog([chunk(0), entry]).mark for entry in last]
    assert len(set(marks)) == len(marks)


def test_notes_change_nothing_and_a_beginning_forgets() -> None:
    log = EventLog([chunk(0)])
    assert log.append(HoldEntry(2)).append(RewindEntry(0)).mark == log.mark
    everything = ResetEntry("all")
    assert log.append(everything).mark == EventLog([chunk(5), everything]).mark
    assert EventLog().mark == Mark()
