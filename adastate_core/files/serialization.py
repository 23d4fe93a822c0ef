"""The JSON header of a state file: everything but the tensors, which it names.

Tensors are called `content.00007`, `state.00007` for chunks, `root.00002.content` for given
latents and `cond.<digest>.<name>` for conditionings; the header has the digest of each. The origin
of a state is no part of it. Named streams of format version 1 have the same header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from ..digest import tensor_digest
from ..errors import AdaStateError, StateFileError
from ..stream.conditioning import Conditioning
from ..stream.event_log import EventLog
from ..stream.events import ChunkEvent, Event
from ..stream.state import StreamState
from .event_checks import check_events
from .schema import (
    Digest,
    EventModel,
    NamedTensor,
    Reference,
    Refuse,
    StateFields,
    event_from_model,
    event_to_json,
    validated,
)

FORMAT = "adastate.stream"
VERSION = 1

Info = tuple[str, tuple[int, ...]]
"""Dtype, by the name of safetensors, and shape of a tensor."""


class _Kind(BaseModel):
    """What says whether the rest can be read."""

    format: Any = None
    version: Any = None


class Header(StateFields):
    """The header, checked value by value."""

    format: str
    version: int
    entries: list[EventModel]
    conditionings: dict[str, str]
    digests: dict[str, Digest]


def state_to_header(state: StreamState) -> tuple[str, dict[str, Tensor]]:
    """Return a state as JSON text, and the tensors by the names it gives them."""
    tensors: dict[str, Tensor] = {}

    def named(position: int, event: Event) -> Callable[[str, Tensor], object]:
        def refer(name: str, tensor: Tensor) -> object:
            key = _tensor_key(position, event, name)
            tensors[key] = tensor
            return {"tensor": key}

        return refer

    events = [event_to_json(e, named(position, e)) for position, e in enumerate(state.events)]
    conditionings = {}
    for digest, conditioning in state.conditionings.items():
        conditionings[digest] = conditioning.structure
        for name, tensor in conditioning.tensors.items():
            tensors[f"cond.{digest}.{name}"] = tensor
    header = {
        "format": FORMAT,
        "version": VERSION,
        **fields_to_json(state),
        "entries": events,
        "conditionings": conditionings,
        "digests": {name: tensor_digest(tensor) for name, tensor in tensors.items()},
    }
    return json.dumps(header), tensors


def fields_to_json(state: StreamState) -> dict[str, Any]:
    """Return the values of `StateFields`; those of sound only where there is any."""
    sound: dict[str, Any] = {}
    if state.sound_shape is not None:
        sound["sound_shape"] = state.sound_shape
    if state.clock is not None:
        sound["clock"] = {
            "starts": [str(start) for start in state.clock.starts],
            "period": str(state.clock.period),
            "early": str(state.clock.early),
            "sound_at": str(state.clock.sound_at),
        }
    return {
        **sound,
        "latent_shape": state.latent_shape,
        "fingerprint": asdict(state.fingerprint) if state.fingerprint else None,
        "latent_format": state.latent_format,
        "chunk_index": state.chunk_index,
        "hold": state.hold,
        "history_chunks": state.history_chunks,
    }


def parse_header(text: str, what: str, refuse: Refuse) -> Header:
    """Read and check the JSON text whose digest is right.

    Args:
        text: What `state_to_header` made.
        what: The file, for messages.
        refuse: Makes the error of a file that is not right.

    Raises:
        StateFileError: If it is of another format or a newer version, or a value is wrong.
    """
    format_version(text, what, VERSION, refuse)
    return validated(Header, text, refuse)


def format_version(text: str, what: str, newest: int, refuse: Refuse) -> int:
    """Return the format version of a header, up to the newest one that can be read.

    Raises:
        StateFileError: If it is of another format or a newer version.
    """
    kind = validated(_Kind, text, refuse)
    if kind.format != FORMAT:
        raise refuse("a header of another format")
    if type(kind.version) is not int or not 1 <= kind.version <= newest:
        raise newer_version(what, kind.version, newest)
    return kind.version


def check_header(header: Header, infos: Mapping[str, Info], refuse: Refuse) -> None:
    """Check the header against itself and against the tensors, none of which is read.

    Args:
        header: The header.
        infos: Dtype and shape of every tensor that there is.
        refuse: Makes the error.

    Raises:
        StateFileError: If anything disagrees.
    """
    if infos.keys() != header.digests.keys():
        names = sorted(infos.keys() ^ header.digests.keys())
        raise refuse(f"{len(names)} tensors in the file or the header alone")

    used: list[str] = []

    def shape(reference: Reference) -> Info:
        if not isinstance(reference, NamedTensor) or reference.tensor not in infos:
            raise refuse("an event whose tensor is not there")
        used.append(reference.tensor)
        return infos[reference.tensor]

    check_events(header, header.entries, header.conditionings.keys(), shape, refuse)
    prefixes = tuple(f"cond.{digest}." for digest in header.conditionings)
    others = [name for name in infos if not (prefixes and name.startswith(prefixes))]
    if sorted(used) != sorted(others):
        raise refuse("tensors that belong to no event, or to two")


def state_from_header(header: Header, tensors: Mapping[str, Tensor], refuse: Refuse) -> StreamState:
    """Build the state; `tensors` are those of the header's digests, checked.

    Raises:
        StateFileError: If a value is out of range.
    """

    def tensor(reference: Reference) -> Tensor:
        assert isinstance(reference, NamedTensor)  # `check_header` saw to that
        return tensors[reference.tensor]

    own: dict[str, dict[str, Tensor]] = {digest: {} for digest in header.conditionings}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        digest, _, key = rest.partition(".")
        if kind == "cond" and digest in own:
            own[digest][key] = value
    conditionings = {
        digest: conditioning_from(digest, structure, own[digest], refuse)
        for digest, structure in header.conditionings.items()
    }
    try:
        events = tuple(event_from_model(event, tensor) for event in header.entries)
    except AdaStateError as error:
        raise refuse(f"a value out of range ({error})") from error
    return StreamState(**header.values(), events=EventLog(events), conditionings=conditionings)


def conditioning_from(
    digest: str, structure: str, tensors: Mapping[str, Tensor], refuse: Refuse
) -> Conditioning:
    """Build a conditioning from values that were read.

    Raises:
        StateFileError: If it is not the one of this digest, or cannot be one.
    """
    try:
        conditioning = Conditioning.restored(structure, tensors)
    except AdaStateError as error:
        raise refuse(f"a conditioning that cannot be used ({error.seen})") from error
    if conditioning.digest != digest:
        raise refuse("a conditioning that differs from its digest")
    return conditioning


def newer_version(what: str, seen: object, expected: int) -> StateFileError:
    """Make the error of a format that this version cannot read."""
    return StateFileError(
        what,
        problem=f"{what} was written by a newer AdaState (format version {ascii(seen)[:40]})",
        seen=f"format version {ascii(seen)[:40]}",
        expected=f"version {expected}",
        remedy="update AdaState to open it",
    )


def _tensor_key(position: int, event: Event, name: str) -> str:
    if isinstance(event, ChunkEvent):
        return f"{name}.{event.index:05d}"
    return f"root.{position:05d}.{name}"
