"""State files: one safetensors file with a JSON header, written whole or not at all.

Reading checks everything before a state is built, so a damaged or foreign file never becomes
half a stream. `header` says what the file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .conditioning import tensor_digest
from .durable import write_durably
from .errors import StateFileError
from .header import header_digests, parse_header, state_from_header, state_to_header, text_digest
from .state import StreamState

SUFFIX = ".adastate.safetensors"


def save_state(state: StreamState, path: Path) -> None:
    """Write a state file; an existing file is replaced only once the new one is complete.

    Raises:
        StateFileError: If the file cannot be written.
    """
    text, tensors = state_to_header(state)
    contiguous = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"adastate": text, "sha256": text_digest(text)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, lambda partial: save_file(contiguous, partial, metadata=metadata))
    except (OSError, SafetensorError) as error:
        raise StateFileError(
            f"state file {path.name}",
            seen=str(error),
            expected="a writable folder with free space",
            remedy="free space or change filename_prefix on Save State",
        ) from error


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
    what = f"state file {path.name}"
    header = parse_header(_checked_text(path, metadata), what)
    if {name: tensor_digest(tensor) for name, tensor in tensors.items()} != header_digests(
        header, what
    ):
        raise _unreadable(path, "tensors that differ from their recorded digests")
    return state_from_header(header, tensors, what)


def _checked_text(path: Path, metadata: Mapping[str, str]) -> str:
    if "adastate" not in metadata:
        raise StateFileError(
            f"state file {path.name}",
            seen="a safetensors file without an AdaState header",
            expected="a file written by Save State",
            remedy="pick another file in Load State",
        )
    text = metadata["adastate"]
    if metadata.get("sha256") != text_digest(text):
        raise _unreadable(path, "a header that differs from its digest")
    return text


def _unreadable(path: Path, seen: str) -> StateFileError:
    return StateFileError(
        f"state file {path.name}",
        seen=seen,
        expected="a complete AdaState file",
        remedy="pick another file in Load State, or save the state again",
    )
