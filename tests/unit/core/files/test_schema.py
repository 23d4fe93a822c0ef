"""What the JSON of files may hold: events there and back, and records that agree."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from adastate_core.clock import StreamClock
from adastate_core.config import StreamConfig
from adastate_core.errors import ConfigError, StateFileError
from adastate_core.files.schema import (
    EVENT_OF,
    AnyModel,
    Checked,
    EventModel,
    Place,
    StateFields,
    event_from_model,
    event_to_json,
    foreign,
    validated,
)
from adastate_core.stream.events import (
    ChunkEvent,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    RewindEvent,
)

CONTENT, STATE = torch.ones((1, 4, 3, 2, 3)), torch.zeros((1, 4, 1, 2, 3))
EVENTS: list[Event] = [
    ChunkEvent(3, 7, "p", None, "w", StreamConfig(), state=STATE, content=CONTENT, frame=9),
    ChunkEvent(0, 0, "p", "n", "", StreamConfig(anchor="none"), held=True, latents="x"),
    GivenLatentsEvent("blend", state=STATE, content=CONTENT, frame=-3),
    GivenLatentsEvent("start", raw=True, content=CONTENT),
    ResetEvent("window"),
    HoldEvent(-1),
    FlushEvent(2),
    RewindEvent(5),
]


def refuse(seen: str) -> StateFileError:
    return foreign("a file", seen)


def model_of(event: Event, tensors: dict[str, Tensor]) -> AnyModel:
    def refer(name: str, tensor: Tensor) -> object:
        tensors[name] = tensor
        return {"tensor": name}

    text = json.dumps(event_to_json(event, refer))
    made: AnyModel = TypeAdapter(EventModel).validate_json(text)
    return made


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
def test_events_there_and_back(event: Event) -> None:
    tensors: dict[str, Tensor] = {}
    back = event_from_model(model_of(event, tensors), lambda ref: tensors[ref.tensor])  # type: ignore[union-attr]
    assert type(back) is type(event)
    for name in event.__dataclass_fields__:
        mine, its = getattr(event, name), getattr(back, name)
        assert mine is its if isinstance(mine, Tensor) else mine == its


def test_every_event_has_a_kind() -> None:
    assert {type(event) for event in EVENTS} == set(EVENT_OF.values())
    kinds = [event_to_json(event, lambda name, x: None)["kind"] for event in EVENTS]
    assert set(kinds) == set(EVENT_OF)


def test_a_config_of_an_older_version_has_defaults() -> None:
    values = {
        "kind": "chunk",
        "index": 0,
        "seed": 0,
        "positive": "p",
        "negative": None,
        "weights": "",
        "config": {"window_frames": 5},
    }
    model: AnyModel = TypeAdapter(EventModel).validate_python(values)
    event = event_from_model(model, lambda ref: CONTENT)
    assert isinstance(event, ChunkEvent)
    assert event.config == StreamConfig(window_frames=5)


def test_a_value_out_of_range_is_refused_by_the_option() -> None:
    model = model_of(ChunkEvent(0, 0, "p", None, "", StreamConfig()), {})
    bad = model.model_copy(update={"config": model.config.model_copy(update={"ema_rate": 2.0})})  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="ema_rate"):
        event_from_model(bad, lambda ref: CONTENT)


class Example(Checked):
    count: int
    inner: Place | None = None


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("{", "Invalid JSON"),
        ('{"count": "1"}', "count: Input should be a valid integer"),
        ('{"count": 1, "more": 2}', "more: Extra inputs"),
        ("{}", "count: Field required"),
        ('{"count": 1, "inner": {}}', "inner.segment: Field required"),
        ('{"count": 1, "\u6c34\\n": 2}', r"\\u6c34"),
    ],
)
def test_the_first_wrong_value_is_named_in_one_line(text: str, seen: str) -> None:
    with pytest.raises(StateFileError, match=seen) as error:
        validated(Example, text, refuse)
    assert "\n" not in str(error.value)
    assert str(error.value).isascii()


def test_a_place_ends_behind_its_bytes() -> None:
    place = Place(segment="s", at=10, dtype="BF16", shape=(2, 3), digest="0" * 64)
    assert place.end == 10 + 12
    assert place.model_copy(update={"shape": ()}).end == 12


def fields(chunk_index: int, **changes: Any) -> StateFields:
    fingerprint = {"family": "wan2.1", "latent_channels": 4, "digest": "v2-0"}
    values = {
        "latent_shape": [1, 4, 2, 3],
        "fingerprint": fingerprint,
        "latent_format": "",
        "chunk_index": chunk_index,
        "hold": 0,
        "history_chunks": 0,
    }
    return StateFields.model_validate_json(json.dumps({**values, **changes}))


def test_the_fields_are_arguments_of_a_state() -> None:
    values = fields(4, hold=-1).values()
    assert (values["chunk_index"], values["hold"]) == (4, -1)
    assert values["fingerprint"].family == "wan2.1"
    assert fields(0, fingerprint=None).values()["fingerprint"] is None


def test_a_clock_is_read_back_as_it_was() -> None:
    clock = {"starts": ["0", "5/3"], "period": "25/3", "early": "29/4", "sound_at": "11/4"}
    read = fields(0, clock=clock, sound_shape=[6, 2]).values()
    starts = (Fraction(0), Fraction(5, 3))
    assert read["clock"] == StreamClock(starts, Fraction(25, 3), Fraction(29, 4), Fraction(11, 4))
    assert read["sound_shape"] == (6, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"starts": []},
        {"starts": ["1"]},
        {"starts": ["0", "0"]},
        {"starts": ["0", "9"]},
        {"period": "1/0"},
        {"period": "0"},
        {"early": "1e9"},
        {"sound_at": 0.5},
    ],
)
def test_a_clock_that_does_not_run_is_refused(change: dict[str, Any]) -> None:
    clock = {"starts": ["0", "5/3"], "period": "25/3", "early": "0", "sound_at": "0", **change}
    with pytest.raises(ValidationError):
        fields(0, clock=clock)
