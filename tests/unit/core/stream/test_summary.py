"""A stream in plain values: what happened, under which prompts, and how its state moves."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from adastate_core.config import StreamConfig
from adastate_core.stream.events import (
    ChunkEvent,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    RewindEvent,
)
from adastate_core.stream.state import StreamState
from adastate_core.stream.summary import describe_stream, receipt
from tests.support.reference_host import Harness

SHAPE = (1, 1, 1, 2)


def chunk(index: int, state: tuple[float, float] | None = None, **changes: Any) -> ChunkEvent:
    hidden = None if state is None else torch.tensor(state).reshape(1, 1, 1, 1, 2)
    values = {"index": index, "seed": 7, "positive": "0123456789", "negative": None, "weights": ""}
    return ChunkEvent(**{**values, "config": StreamConfig(), "state": hidden, **changes})


def test_a_fresh_stream() -> None:
    assert describe_stream(StreamState(SHAPE)) == {
        "next_chunk": 0,
        "latent_shape": [1, 1, 1, 2],
        "model": None,
        "holding": 0,
        "chunks_remembered": 0,
        "prompts": [],
        "events": [],
        "hidden_state": [],
    }


@pytest.mark.parametrize(
    ("event", "values"),
    [
        (GivenLatentsEvent("recache", latents="x"), {"event": "recache"}),
        (ResetEvent("window"), {"event": "reset", "scope": "window"}),
        (HoldEvent(-1), {"event": "hold", "chunks": -1}),
        (RewindEvent(4), {"event": "rewind", "chunk": 4}),
        (FlushEvent(2), {"event": "flush", "frames": 2}),
    ],
)
def test_receipts_of_edits(event: Event, values: dict[str, object]) -> None:
    assert receipt(event) == values


def test_the_receipt_of_a_chunk() -> None:
    weights, config = "f" * 32, StreamConfig(anchor="none", cache_precision="fp8")
    found = receipt(chunk(5, held=True, approximate=True, weights=weights, config=config))
    found.pop("preset")
    found.pop("changed")
    assert found == {
        "event": "chunk",
        "chunk": 5,
        "seed": 7,
        "prompt": "unknown prompt",
        "anchor": "none",
        "held": True,
        "weights": "ffffffff",
        "cache_precision": "fp8",
        "approximate": True,
    }
    assert receipt(chunk(0))["weights"] == "unpatched"


def test_a_prompt_is_listed_where_it_takes_effect() -> None:
    harness = Harness()
    state = harness.fresh
    for prompt in (0, 0, 1, 1, 0):
        state = harness.step(state, prompt=prompt)
    found = [(row["chunk"], row["prompt"]) for row in describe_stream(state)["prompts"]]
    first, second = "unknown prompt", "unknown prompt 2"
    assert found == [(0, first), (2, second), (4, first)]


def test_a_prompt_is_named_by_its_text() -> None:
    events = [
        chunk(0, prompt="a red circle"),
        chunk(1, positive="9876543210", prompt="a blue square"),
    ]
    found = describe_stream(StreamState(SHAPE, events=events))["prompts"]  # type: ignore[arg-type]
    assert [row["prompt"] for row in found] == ["a red circle", "a blue square"]
    assert receipt(events[0])["prompt"] == "a red circle"


def test_drift_is_a_share_of_the_norm() -> None:
    states = [(3.0, 4.0), (0.0, 8.0), (0.0, 8.0)]
    events = [chunk(i, state) for i, state in enumerate(states)]
    rows = describe_stream(StreamState(SHAPE, events=events))["hidden_state"]  # type: ignore[arg-type]
    assert rows == [
        {"chunk": 0, "norm": 5.0, "from_first": 0.0, "from_previous": 0.0},
        {"chunk": 1, "norm": 8.0, "from_first": 0.625, "from_previous": 0.625},
        {"chunk": 2, "norm": 8.0, "from_first": 0.625, "from_previous": 0.0},
    ]


def test_states_that_cannot_be_compared_are_left_out() -> None:
    wide = ChunkEvent(1, 0, "p", None, "", StreamConfig(), state=torch.ones((1, 1, 2, 1, 2)))
    events = [chunk(0, (3.0, 4.0)), wide, chunk(2), chunk(3, (0.0, 0.0))]
    rows = describe_stream(StreamState(SHAPE, events=events))["hidden_state"]  # type: ignore[arg-type]
    assert [row["chunk"] for row in rows] == [0]


def test_a_stream_that_was_edited_is_json() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 3).hold_anchor(-1).flush(1).reset("anchor")
    found = describe_stream(harness.step(state))
    assert json.loads(json.dumps(found)) == found
    assert [event["event"] for event in found["events"]] == [
        "chunk",
        "chunk",
        "chunk",
        "hold",
        "flush",
        "reset",
        "chunk",
    ]
    assert (found["next_chunk"], found["holding"], found["chunks_remembered"]) == (4, -1, 4)
    assert found["model"] == "reference"
