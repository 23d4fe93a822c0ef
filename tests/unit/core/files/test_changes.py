"""What happened between two records of a stream, and back again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adastate_core.config import StreamConfig
from adastate_core.files.changes import (
    Changes,
    changed,
    changes,
    holds_latents,
)
from adastate_core.stream.event_log import EventLog
from adastate_core.stream.events import (
    ChunkEvent,
    Event,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    without_latents,
)

LATENT = torch.zeros((1, 1, 1, 1, 1))


def chunk(index: int, take: int = 0, *, latents: bool = True) -> ChunkEvent:
    held = torch.full_like(LATENT, take) if latents else None
    return ChunkEvent(
        index, 0, "p", None, "", StreamConfig(), latents=f"{index} {take}", content=held
    )


def log(count: int) -> EventLog:
    return EventLog(chunk(i) for i in range(count))


def test_nothing_happened() -> None:
    before = log(5)
    assert changes(before, before) == Changes(5)
    assert changes(EventLog(), EventLog()) == Changes(0)


@pytest.mark.parametrize("count", [3, 256, 300])
def test_what_was_added_is_all_that_is_new(count: int) -> None:
    before = log(count)
    assert changes(before, before.append(chunk(count)).append(HoldEvent(1))) == Changes(count)


def test_a_rewind_keeps_less() -> None:
    before = log(5)
    assert changes(before, before.first(2)) == Changes(2)
    assert changes(before, before.first(2).append(chunk(2, take=1))) == Changes(2)
    # Latents are never compared: equal ones of another take are new.
    assert changes(before, before.first(4).append(chunk(4))) == Changes(4)


def test_what_was_forgotten_is_told_from_what_is_new() -> None:
    before = log(5)
    after = before
    for position in (0, 1, 3):
        after = after.replaced(position, without_latents(before[position]))
    assert changes(before, after) == Changes(5, (0, 1, 3))
    assert changes(before, after.first(2)) == Changes(2, (0, 1))


def test_entries_without_latents_are_compared_by_value() -> None:
    before = EventLog([ResetEvent("all"), HoldEvent(1), chunk(0)])
    again = EventLog([ResetEvent("all"), HoldEvent(1), chunk(0)])
    assert changes(before, again) == Changes(2)
    assert changes(before, EventLog([ResetEvent("all"), HoldEvent(2)])) == Changes(1)


def test_a_chunk_that_forgot_and_changed_is_new() -> None:
    before = log(3)
    other = replace(chunk(1, latents=False), weights="lora")
    assert changes(before, before.replaced(1, other)) == Changes(1)


def test_changes_are_undone_by_what_they_say() -> None:
    before = log(5)
    added: list[Event] = [chunk(3, take=1), HoldEvent(-1)]
    after = changed(before, 3, {0}, added)
    assert changes(before, EventLog.of(after)).kept == 3
    assert len(after) == 5
    assert not holds_latents(after[0])
    assert after[1] is before[1]
    assert after[3:] == tuple(added)


def test_a_log_that_only_grows_shares_its_past() -> None:
    before = log(300)
    after = changed(before, 300, (), [chunk(300)])
    assert isinstance(after, EventLog)
    assert list(before.differing(after)) == []


def test_only_chunks_and_given_latents_hold_latents() -> None:
    given = GivenLatentsEvent("start", content=LATENT)
    for event in (chunk(0), given):
        assert holds_latents(event)
        receipt = without_latents(event)
        assert not holds_latents(receipt)
        assert receipt.latents == event.latents  # type: ignore[union-attr]
    assert not holds_latents(HoldEvent(1))
    assert without_latents(HoldEvent(1)) == HoldEvent(1)
