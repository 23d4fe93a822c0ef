"""What the JSON of files may hold: events there and back, and records that agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.errors import ConfigError, StateFileError
from adastate_core.files.schema import (
    EVENT_OF,
    AnyModel,
    Checked,
    EventModel,
    Place,
    Reference,
    StateFields,
    check_events,
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


def chunk(index: int, *, content: bool = True, state: bool = False) -> ChunkEvent:
    return ChunkEvent(
        index,
        0,
        "p",
        None,
        "",
        StreamConfig(),
        content=CONTENT if content else None,
        state=STATE if state else None,
    )


def check(
    about: StateFields,
    *events: Event,
    dtype: str = "F32",
    known: tuple[str, ...] = ("p",),
    **shapes: tuple[int, ...],
) -> None:
    """Check a record whose tensors have these shapes, or those that they should have."""

    def shape(reference: Reference) -> tuple[str, tuple[int, ...]]:
        name = reference.tensor  # type: ignore[union-attr]
        usual = {"content": tuple(CONTENT.shape), "state": tuple(STATE.shape)}
        return dtype, {**usual, **shapes}[name]

    check_events(about, [model_of(event, {}) for event in events], known, shape, refuse)


def test_records_that_agree_with_themselves() -> None:
    check(fields(0, fingerprint=None))
    check(fields(2), chunk(0), chunk(1, state=True))
    check(fields(2), chunk(0, content=False), chunk(1))
    check(fields(3), GivenLatentsEvent("start", content=CONTENT), chunk(2), HoldEvent(1))


@pytest.mark.parametrize(
    ("about", "events", "options", "seen"),
    [
        (fields(3), [chunk(0), chunk(2)], {}, "chunk 2 after chunk 0"),
        (fields(2), [chunk(0), chunk(1, content=False)], {}, "older ones alone"),
        (fields(1), [chunk(0, content=False, state=True)], {}, "a part of its latents"),
        (fields(5), [chunk(0)], {}, "next chunk 5 after chunk 0"),
        (fields(1), [chunk(0)], {"known": ()}, "chunk 0 without its conditioning"),
        (fields(1, fingerprint=None), [chunk(0)], {}, "without the model"),
        (fields(1), [chunk(0)], {"dtype": "I64"}, "content of I64"),
        (fields(1), [chunk(0)], {"content": (1, 4, 2, 2, 3)}, "in place of"),
        (fields(1), [chunk(0)], {"content": (1, 4, 3, 2)}, "in place of"),
        (fields(1), [chunk(0, state=True)], {"state": (1, 4, 0, 2, 3)}, "state of F32"),
        (fields(1), [chunk(0, state=True)], {"state": (2, 4, 1, 2, 3)}, "state of F32"),
        (
            fields(0),
            [GivenLatentsEvent("start", content=CONTENT)],
            {"content": (1, 3, 9, 2, 3)},
            "content of F32",
        ),
    ],
    ids=range(12),
)
def test_records_that_contradict_themselves_are_refused(
    about: StateFields, events: list[Event], options: dict[str, Any], seen: str
) -> None:
    with pytest.raises(StateFileError, match=seen):
        check(about, *events, **options)


def test_given_latents_may_have_any_number_of_frames() -> None:
    given = GivenLatentsEvent("start", content=CONTENT)
    check(fields(0, fingerprint=None), given, content=(1, 4, 11, 2, 3))


def test_the_fields_are_arguments_of_a_state() -> None:
    values = fields(4, hold=-1).values()
    assert (values["chunk_index"], values["hold"]) == (4, -1)
    assert values["fingerprint"].family == "wan2.1"
    assert fields(0, fingerprint=None).values()["fingerprint"] is None
