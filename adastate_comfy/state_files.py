"""State files in ComfyUI's output and input folders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths

from ..adastate_core.errors import StateFileError
from ..adastate_core.files.state_file import SUFFIX, save_claimed
from ..adastate_core.stream.state import StreamState
from .output_names import find_target
from .page_metadata import page_metadata
from .sockets.latents import image_size

_NAME = re.compile(r"\.adastate( ?\(\d+\))?\.safetensors$", re.IGNORECASE)
"""End of a name; browsers, and the host's uploads, number a second file of the same name there."""


def save_numbered(
    state: StreamState,
    prefix: str,
    prompt: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None,
) -> tuple[Path, str]:
    """Save a stream as the next numbered file of a prefix, with the workflow that made it.

    Args:
        state: The stream.
        prefix: The widget `filename_prefix`.
        prompt: The hidden input of that name.
        extra: The hidden input `extra_pnginfo`.

    Returns:
        The file, and its name as Load State lists it.

    Raises:
        ConfigError: If the prefix cannot be used.
        VideoFileError: If no file can be made there.
        StateFileError: If the stream cannot be written.
    """
    size = image_size(state.latent_shape, state.latent_format)
    target = find_target(prefix, size, [f"_00001{SUFFIX}"], prompt, extra)
    path = target.claim("_{:05}", [SUFFIX])
    save_claimed(state, path, page_metadata(prompt, extra))
    return path, f"{(Path(target.subfolder) / path.name).as_posix()} [output]"


def list_state_files() -> list[str]:
    """List state files of the output and the input folder, newest first."""
    found = []
    for root, mark in _roots():
        for path in root.rglob("*.safetensors"):
            if _NAME.search(path.name) and _holds_a_state(path):
                found.append((path.stat().st_mtime, f"{path.relative_to(root).as_posix()} {mark}"))
    return [name for _, name in sorted(found, reverse=True)]


def find_state_file(file: str) -> Path:
    """Turn a listed name into a path inside one of the two folders.

    Raises:
        StateFileError: If there is no such file.
    """
    roots = {mark: root.resolve() for root, mark in _roots()}
    name, _, mark = file.rpartition(" ")
    if mark not in roots:
        name, mark = file, "[output]"
    path = (roots[mark] / name).resolve()
    if roots[mark] not in path.parents or not _NAME.search(path.name) or not path.is_file():
        raise StateFileError(
            "state file",
            problem=f'there is no state file "{file}"',
            seen=repr(file),
            expected=f"an existing *{SUFFIX} file in the output or input folder",
            remedy="choose another file on Load State",
        )
    return path


def file_version(path: Path) -> str:
    """Return a text that changes when the file changes."""
    stat = path.stat()
    return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


def _roots() -> list[tuple[Path, str]]:
    return [
        (Path(folder_paths.get_output_directory()), "[output]"),
        (Path(folder_paths.get_input_directory()), "[input]"),
    ]


def _holds_a_state(path: Path) -> bool:
    """Tell files of states from names that are claimed for one that is being written."""
    return path.is_file() and not path.name.startswith(".") and path.stat().st_size > 0
