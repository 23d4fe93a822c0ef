"""Records of a file that agree with themselves, and those that do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.errors import StateFileError
from adastate_core.files.event_checks import check_events
from adastate_core.files.schema import (
    AnyModel,
    EventModel,
    Reference,
    StateFields,
    event_to_json,
    foreign,
)
from adastate_core.stream.events import (
    ChunkEvent,
    Event,
    GivenLatentsEvent,
    HoldEvent,
)

CONTENT, STATE = torch.ones((1, 4, 3, 2, 3)), torch.zeros((1, 4, 1, 2, 3))
SOUND = torch.ones((1, 6, 7, 2))


def refuse(seen: str) -> StateFileError:
    return foreign("a file", seen)


def model_of(event: Event, tensors: dict[str, Tensor]) -> AnyModel:
    def refer(name: str, tensor: Tensor) -> object:
        tensors[name] = tensor
        return {"tensor": name}

    text = json.dumps(event_to_json(event, refer))
    made: AnyModel = TypeAdapter(EventModel).validate_json(text)
    return made


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


def check_sound(event: Event, *, known: bool = True, **about: Any) -> None:
    tensors: dict[str, Tensor] = {}
    model = model_of(event, tensors)

    def shape(reference: Reference) -> tuple[str, tuple[int, ...]]:
        tensor = tensors[reference.tensor]  # type: ignore[union-attr]
        return "F32", tuple(tensor.shape)

    about |= {"sound_shape": (6, 2)} if known else {}
    check_events(fields(0, **about), [model], [], shape, refuse)


def test_sound_of_the_stream_may_have_any_length() -> None:
    for ticks in (1, 7):
        check_sound(GivenLatentsEvent("start", content=CONTENT, sound=SOUND[:, :, :ticks]))


@pytest.mark.parametrize(
    ("sound", "seen"),
    [
        (SOUND[:, :5], "sound of F32"),
        (SOUND[..., :1], "sound of F32"),
        (SOUND[:, :, :0], "sound of F32"),
        (SOUND[0], "sound of F32"),
    ],
)
def test_another_sound_is_refused(sound: Tensor, seen: str) -> None:
    with pytest.raises(StateFileError, match=seen):
        check_sound(GivenLatentsEvent("start", content=CONTENT, sound=sound))


def test_sound_in_a_stream_without_is_refused() -> None:
    with pytest.raises(StateFileError, match="sound in a stream without"):
        check_sound(GivenLatentsEvent("start", content=CONTENT, sound=SOUND), known=False)


@pytest.mark.parametrize(
    "config", [StreamConfig(state_frames=2), StreamConfig(anchor="none"), StreamConfig()]
)
def test_a_state_is_as_long_as_the_options_say(config: StreamConfig) -> None:
    tensors: dict[str, Tensor] = {}
    made = ChunkEvent(0, 0, "p", None, "", config, state=STATE, content=CONTENT)
    model = model_of(made, tensors)

    def shape(reference: Reference) -> tuple[str, tuple[int, ...]]:
        return "F32", tuple(tensors[reference.tensor].shape)  # type: ignore[union-attr]

    if config == StreamConfig():
        check_events(fields(1), [model], ["p"], shape, refuse)
        return
    with pytest.raises(StateFileError, match="state of F32"):
        check_events(fields(1), [model], ["p"], shape, refuse)


def test_sound_is_as_long_as_its_frames_where_the_clock_is_known() -> None:
    clock = {"starts": ["0"], "period": "7/3", "early": "0", "sound_at": "0"}
    check_sound(GivenLatentsEvent("start", content=CONTENT, sound=SOUND), clock=clock)
    with pytest.raises(StateFileError, match="in place of"):
        check_sound(GivenLatentsEvent("start", content=CONTENT, sound=SOUND[:, :, :6]), clock=clock)
    with pytest.raises(StateFileError, match="sound without the frames"):
        check_sound(GivenLatentsEvent("start", state=STATE, sound=SOUND), clock=clock)
