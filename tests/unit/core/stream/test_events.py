"""Events: what identifies given latents, and where a stream begins anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adastate_core.config import StreamConfig
from adastate_core.digest import tensor_digest
from adastate_core.stream.events import (
    ChunkEvent,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    RewindEvent,
    is_beginning,
    newest_beginning,
)

X, Y = torch.zeros((1, 1, 1, 1, 1)), torch.ones((1, 1, 1, 1, 1))
CHUNK = ChunkEvent(0, 0, "p", None, "", StreamConfig(), content=X)


def test_given_latents_know_what_they_are() -> None:
    """Cache keys and files hold on to this text: the recipe must not change."""
    given = GivenLatentsEvent("reset", state=X, content=Y)
    state, content = tensor_digest(X), tensor_digest(Y)
    assert given.latents == f"reset:model:state={state}:content={content}"
    assert GivenLatentsEvent("start", raw=True, content=X).latents == f"start:raw:content={state}"


def test_which_part_and_which_space_belong_to_what_was_given() -> None:
    found = {
        GivenLatentsEvent(reason, raw=raw, **{part: x}).latents
        for reason in ("start", "reset")
        for raw in (False, True)
        for part in ("state", "content")
        for x in (X, Y)
    }
    assert len(found) == 16


def test_the_digest_outlives_the_latents() -> None:
    given = GivenLatentsEvent("start", content=X)
    receipt = replace(given, content=None)
    assert receipt.latents == given.latents
    assert (given.forgotten, receipt.forgotten) == (False, True)


@pytest.mark.parametrize(
    ("event", "begins"),
    [
        (GivenLatentsEvent("start", content=X), True),
        (GivenLatentsEvent("recache", latents="x"), True),
        (ResetEvent("all"), True),
        (ResetEvent("anchor"), False),
        (ResetEvent("window"), False),
        (CHUNK, False),
        (HoldEvent(-1), False),
        (FlushEvent(0), False),
        (RewindEvent(0), False),
    ],
)
def test_what_begins_anew(event: Event, begins: bool) -> None:
    assert is_beginning(event) == begins
    assert newest_beginning([CHUNK, event, CHUNK]) == int(begins)


def test_the_newest_beginning_counts() -> None:
    assert newest_beginning([]) == 0
    assert newest_beginning([CHUNK, CHUNK]) == 0
    reset = ResetEvent("all")
    assert newest_beginning([reset, CHUNK, reset, CHUNK]) == 2


def test_latents_are_not_printed() -> None:
    assert "tensor(" not in repr(CHUNK)
    assert "tensor(" not in repr(GivenLatentsEvent("start", content=X))
