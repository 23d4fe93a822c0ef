"""State files: one safetensors file with a JSON header, written whole or not at all.

Keys are `content.00007`, `state.00007` for chunks, `root.00002.content` for given latents and
`cond.<digest>.<name>` for conditionings. Reading checks everything before a state is built, so
a damaged or foreign file never becomes half a stream.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .conditioning import Conditioning, tensor_digest
from .config import StreamConfig
from .errors import AdaStateError, StateFileError
from .record import (
    ChunkEntry,
    Entry,
    FlushEntry,
    HoldEntry,
    ModelFingerprint,
    ResetEntry,
    RootEntry,
)
from .state import StreamState

SUFFIX = ".adastate.safetensors"
FORMAT = "adastate.stream"
VERSION = 1

_KINDS: dict[str, type[Any]] = {
    "chunk": ChunkEntry,
    "root": RootEntry,
    "reset": ResetEntry,
    "hold": HoldEntry,
    "flush": FlushEntry,
}


def save_state(state: StreamState, path: Path) -> None:
    """Write a state file; an existing file is replaced only once the new one is complete.

    Raises:
        StateFileError: If the file cannot be written.
    """
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    contiguous = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(header)
        save_file(contiguous, partial, metadata={"adastate": text, "sha256": _sha256(text)})
        with partial.open("r+b") as written:  # some systems flush writable handles only
            os.fsync(written.fileno())
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise StateFileError(
            f"state file {path.name}",
            seen=str(error),
            expected="a writable folder with free space",
            remedy="free space or change filename_prefix on Save State",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def load_state(path: Path) -> StreamState:
    """Read a state file.

    Raises:
        StateFileError: If it is missing, damaged, foreign or of a newer format.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # Clones: tensors in the file's own memory are aligned by chance, and kernels round
            # by alignment, so a continued stream would differ in its last bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, str(error)) from error
    header = _checked_header(path, metadata)
    if {name: tensor_digest(tensor) for name, tensor in tensors.items()} != header.get("digests"):
        raise _unreadable(path, "tensors that differ from their recorded digests")
    try:
        return _state_from_header(header, tensors)
    except AdaStateError as error:
        raise _unreadable(path, f"a value out of range ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, f"an incomplete header ({error!r})") from error


def _checked_header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if "adastate" not in metadata:
        raise StateFileError(
            f"state file {path.name}",
            seen="a safetensors file without an AdaState header",
            expected="a file written by Save State",
            remedy="pick another file in Load State",
        )
    if metadata.get("sha256") != _sha256(metadata["adastate"]):
        raise _unreadable(path, "a header that differs from its digest")
    header = json.loads(metadata["adastate"])
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _unreadable(path, "a header of another format")
    if header.get("version") != VERSION:
        raise StateFileError(
            f"state file {path.name}",
            seen=f"format version {header.get('version')}",
            expected=f"version {VERSION}",
            remedy="update AdaState to open it",
        )
    return header


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unreadable(path: Path, seen: str) -> StateFileError:
    return StateFileError(
        f"state file {path.name}",
        seen=seen,
        expected="a complete AdaState file",
        remedy="pick another file in Load State, or save the state again",
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


def _state_from_header(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> StreamState:
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
        entries=tuple(_entry_from_json(entry, tensors) for entry in header["entries"]),
        conditionings=conditionings,
    )
    if header["fingerprint"] is None:
        return state
    return replace(state, fingerprint=ModelFingerprint(**header["fingerprint"]))
