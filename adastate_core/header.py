"""The JSON header of a state: everything but the tensors, which it names.

State files and named streams store it beside the tensors. Tensors are called `content.00007`,
`state.00007` for chunks, `root.00002.content` for given latents and `cond.<digest>.<name>` for
conditionings; the header has the digest of each. Where a state is kept (`origin`) is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from .conditioning import Conditioning, tensor_digest
from .config import StreamConfig
from .errors import AdaStateError, StateFileError
from .event_log import EventLog
from .record import (
    ChunkEntry,
    Entry,
    FlushEntry,
    HoldEntry,
    ModelFingerprint,
    ResetEntry,
    RewindEntry,
    RootEntry,
)
from .state import StreamState

FORMAT = "adastate.stream"
VERSION = 1

_KINDS: dict[str, type[Any]] = {
    "chunk": ChunkEntry,
    "root": RootEntry,
    "reset": ResetEntry,
    "hold": HoldEntry,
    "flush": FlushEntry,
    "rewind": RewindEntry,
}


def state_to_header(state: StreamState) -> tuple[str, dict[str, Tensor]]:
    """Return a state as JSON text, and the tensors by the names it gives them."""
    tensors: dict[str, Tensor] = {}
    entries = [_entry_to_json(i, entry, tensors) for i, entry in enumerate(state.entries)]
    conditionings = {}
    for digest, conditioning in state.conditionings.items():
        conditionings[digest] = conditioning.structure
        for name, tensor in conditioning.tensors.items():
            tensors[f"cond.{digest}.{name}"] = tensor
    header = {
        "format": FORMAT,
        "version": VERSION,
        "latent_shape": state.latent_shape,
        "fingerprint": asdict(state.fingerprint) if state.fingerprint else None,
        "latent_format": state.latent_format,
        "chunk_index": state.chunk_index,
        "hold": state.hold,
        "history_chunks": state.history_chunks,
        "entries": entries,
        "conditionings": conditionings,
        "digests": {name: tensor_digest(tensor) for name, tensor in tensors.items()},
    }
    return json.dumps(header), tensors


def parse_header(text: str, what: str) -> dict[str, Any]:
    """Read the JSON text whose digest was found right.

    Args:
        text: What `state_to_header` made.
        what: The file, for messages.

    Raises:
        StateFileError: If it is of another format or a newer version.
    """
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _foreign(what, "a header of another format")
    if header.get("version") != VERSION:
        raise newer_version(what, header.get("version"), VERSION)
    return header


def header_digests(header: Mapping[str, Any], what: str) -> dict[str, str]:
    """Return the digests of the tensors by name.

    Raises:
        StateFileError: If the header has none.
    """
    digests = header.get("digests")
    if not isinstance(digests, dict):
        raise _foreign(what, "a header without digests")
    return digests


def state_from_header(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], what: str
) -> StreamState:
    """Build the state; `tensors` are those of the header's digests, checked.

    Raises:
        StateFileError: If a value is missing or out of range.
    """
    try:
        return _state_from_header(header, tensors)
    except AdaStateError as error:
        raise _foreign(what, f"a value out of range ({error})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _foreign(what, f"an incomplete header ({error!r})") from error


def text_digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def newer_version(what: str, seen: object, expected: int) -> StateFileError:
    """Make the error of a format that this version cannot read."""
    return StateFileError(
        what,
        seen=f"format version {seen}",
        expected=f"version {expected}",
        remedy="update AdaState to open it",
    )


def _foreign(what: str, seen: str) -> StateFileError:
    return StateFileError(
        what,
        seen=seen,
        expected="the header of a stream of AdaState",
        remedy="open another one, or save the state again",
    )


def _entry_to_json(position: int, entry: Entry, tensors: dict[str, Tensor]) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if isinstance(entry, cls))
    values: dict[str, Any] = {"kind": kind}
    for name in entry.__dataclass_fields__:
        value = getattr(entry, name)
        if isinstance(value, Tensor):
            key = _tensor_key(position, entry, name)
            tensors[key] = value
            values[name] = {"tensor": key}
        else:
            values[name] = value.to_json() if isinstance(value, StreamConfig) else value
    return values


def _tensor_key(position: int, entry: Entry, name: str) -> str:
    if isinstance(entry, ChunkEntry):
        return f"{name}.{entry.index:05d}"
    return f"root.{position:05d}.{name}"


def _entry_from_json(values: dict[str, Any], tensors: Mapping[str, Tensor]) -> Entry:
    fields: dict[str, Any] = {
        name: tensors[value["tensor"]] if isinstance(value, dict) and "tensor" in value else value
        for name, value in values.items()
        if name != "kind"
    }
    if "config" in fields:
        fields["config"] = StreamConfig.from_json(fields["config"])
    entry: Entry = _KINDS[values["kind"]](**fields)
    return entry


def _state_from_header(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> StreamState:
    conditionings = {}
    for digest, structure in header["conditionings"].items():
        prefix = f"cond.{digest}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        conditionings[digest] = Conditioning(structure, own)
    batch, channels, height, width = header["latent_shape"]
    state = StreamState(
        latent_shape=(batch, channels, height, width),
        latent_format=header["latent_format"],
        chunk_index=header["chunk_index"],
        hold=header["hold"],
        history_chunks=header["history_chunks"],
        entries=EventLog(_entry_from_json(entry, tensors) for entry in header["entries"]),
        conditionings=conditionings,
    )
    if header["fingerprint"] is None:
        return state
    return replace(state, fingerprint=ModelFingerprint(**header["fingerprint"]))
