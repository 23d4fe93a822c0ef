"""State files: one safetensors file with a JSON header, written whole or not at all.

Reading checks everything before a state is built, and names, shapes and sizes before a tensor is
read, so a damaged or foreign file never becomes half a stream. `header` says what the file holds.

The header is in the metadata of the file (format version 1). That of a very long stream does
not fit there: it is a tensor of bytes then, and the metadata holds a stub instead (version 2).
Beside it the metadata may hold what ComfyUI's page opens of a file; reading pays no heed to that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..digest import tensor_digest, text_digest
from ..errors import StateFileError
from ..stream.state import StreamState
from .atomic import write_durably
from .schema import DTYPES, Checked, Digest, foreign, validated
from .serialization import (
    FORMAT,
    Info,
    check_header,
    format_version,
    parse_header,
    state_from_header,
    state_to_header,
)

SUFFIX = ".adastate.safetensors"
LONG = 2
"""Format version of files whose header is a tensor."""

_HEADER = "header"
_LONGEST = 16 << 20  # of the 100 MB that safetensors allows, names and places of tensors included
_OPENED_BY_PAGE = ("workflow", "prompt")


class _Stub(Checked):
    """The metadata of a file whose header is a tensor."""

    format: str
    version: int
    header_sha256: Digest


def save_state(state: StreamState, path: Path, page: Mapping[str, str] | None = None) -> None:
    """Write a state file; an existing file is replaced only once the new one is complete.

    Args:
        state: The stream.
        path: The file.
        page: What ComfyUI's page opens of it, as JSON: its `workflow` and `prompt`.

    Raises:
        StateFileError: If the file cannot be written.
    """
    text, tensors = state_to_header(state)
    tensors = _unshared(tensors)
    if len(text) > _LONGEST:
        stub = {"format": FORMAT, "version": LONG, "header_sha256": text_digest(text)}
        tensors[_HEADER] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        text = json.dumps(stub)
    metadata = {**_for_page(page or {}), "adastate": text, "sha256": text_digest(text)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, lambda unfinished: save_file(tensors, unfinished, metadata=metadata))
    except (OSError, SafetensorError) as error:
        raise StateFileError(
            f"state file {path.name}",
            problem=f"state file {path.name} cannot be written ({error})",
            seen=str(error),
            expected="a writable folder with free space",
            remedy="free some space, or change filename_prefix on Save State",
        ) from error


def save_claimed(state: StreamState, path: Path, page: Mapping[str, str] | None = None) -> None:
    """Write a state to a file that was claimed for it; if that fails, the file is removed.

    Args:
        state: The stream.
        path: The file.
        page: As in `save_state`.

    Raises:
        StateFileError: If the file cannot be written.
    """
    try:
        save_state(state, path, page)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def load_state(path: Path) -> StreamState:
    """Read a state file.

    Raises:
        StateFileError: If it is missing, damaged, foreign or of a newer format.
    """
    what = f"state file {path.name}"
    refuse = partial(foreign, what)
    if not path.exists():
        raise StateFileError(
            what,
            problem=f"{what} is not there",
            seen="no file",
            expected="a file written by Save State",
            remedy="choose another file on Load State",
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = _checked_text(path, file.metadata() or {})
            text, infos = _header_text(path, file, text, _infos(path, file))
            header = parse_header(text, what, refuse)
            check_header(header, infos, refuse)
            tensors = {name: _read(path, file, name, header.digests[name]) for name in infos}
    except (OSError, SafetensorError, RuntimeError) as error:  # torch's: too large to map
        raise _unreadable(path, str(error)) from error
    return state_from_header(header, tensors, refuse)


def _for_page(page: Mapping[str, str]) -> dict[str, str]:
    """Return the entries that the page knows, or none where they would crowd out the header."""
    known = {key: page[key] for key in _OPENED_BY_PAGE if key in page}
    return known if sum(map(len, known.values())) <= _LONGEST else {}


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of which none shares memory with another, as the format requires."""
    taken: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
        memory = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor if whole and memory not in taken else tensor.contiguous().clone()
        taken.add(memory)
    return unshared


def _infos(path: Path, file: safe_open) -> dict[str, Info]:
    """Return dtype and shape of every tensor; none of them is read."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    infos = {name: (x.get_dtype(), tuple(x.get_shape())) for name, x in slices.items()}
    unknown = {str(dtype) for dtype, _ in infos.values()} - DTYPES.keys()
    if unknown:
        raise _unreadable(path, f"tensors of {', '.join(sorted(unknown))}")
    return infos


def _header_text(
    path: Path, file: safe_open, text: str, infos: dict[str, Info]
) -> tuple[str, dict[str, Info]]:
    """Return the header's text, and the tensors that it is about."""
    what = f"state file {path.name}"
    refuse = partial(foreign, what)
    if format_version(text, what, LONG, refuse) != LONG:
        return text, infos
    stub = validated(_Stub, text, refuse)
    dtype, shape = infos.get(_HEADER, ("", ()))
    if dtype != "U8" or len(shape) != 1:
        raise _unreadable(path, "no header")
    data = bytes(file.get_tensor(_HEADER).numpy().data)
    if hashlib.sha256(data).hexdigest() != stub.header_sha256 or not data.isascii():
        raise _unreadable(path, "a header that differs from its digest")
    return data.decode("ascii"), {k: v for k, v in infos.items() if k != _HEADER}


def _read(path: Path, file: safe_open, name: str, digest: str) -> Tensor:
    # A clone: tensors in the file's own memory are aligned by chance, and kernels round by
    # alignment, so a continued stream would differ in its last bits.
    tensor: Tensor = file.get_tensor(name).clone()
    if tensor_digest(tensor) != digest:
        raise _unreadable(path, "tensors that differ from their digests")
    return tensor


def _checked_text(path: Path, metadata: Mapping[str, str]) -> str:
    if "adastate" not in metadata:
        raise StateFileError(
            f"state file {path.name}",
            problem=f"state file {path.name} was not written by Save State",
            seen="a safetensors file without an AdaState header",
            expected="a file written by Save State",
            remedy="choose another file on Load State",
        )
    text = metadata["adastate"]
    if metadata.get("sha256") != text_digest(text):
        raise _unreadable(path, "a header that differs from its digest")
    return text


def _unreadable(path: Path, seen: str) -> StateFileError:
    return StateFileError(
        f"state file {path.name}",
        problem=f"state file {path.name} is damaged: {seen}",
        seen=seen,
        expected="a complete AdaState file",
        remedy="choose another file on Load State, or save the state again",
    )
