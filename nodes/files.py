"""Save a stream to a file and load it back."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..adastate_core.errors import StateFileError
from ..adastate_core.state import StreamState
from ..adastate_core.storage import SUFFIX, load_state, save_state
from .sockets import CATEGORY, state_input, state_output


class AdaStateSave(io.ComfyNode):
    """Save a stream to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare inputs and outputs."""
        return io.Schema(
            node_id="AdaStateSave",
            display_name="Save State",
            category=CATEGORY,
            description="Save a stream to a file, to continue it another day.",
            is_output_node=True,
            inputs=[
                state_input(tooltip="The stream to save."),
                io.String.Input(
                    "filename_prefix",
                    default="adastate/state",
                    tooltip="Folder and name under ComfyUI's output folder.",
                ),
            ],
            outputs=[
                io.String.Output("path", display_name="path", tooltip="The file that was written.")
            ],
        )

    @classmethod
    def execute(cls, state: StreamState, filename_prefix: str) -> io.NodeOutput:
        """Write the next numbered file of this prefix."""
        root = Path(folder_paths.get_output_directory()).resolve()
        target = (root / filename_prefix).resolve()
        if root not in target.parents or target.name in ("", ".", ".."):
            raise StateFileError(
                "filename_prefix",
                seen=repr(filename_prefix),
                expected="a name inside the output folder",
                remedy="change filename_prefix on Save State",
            )
        taken = [_number(found, target.name) for found in target.parent.glob(f"*{SUFFIX}")]
        path = target.with_name(f"{target.name}_{max(taken, default=0) + 1:05d}{SUFFIX}")
        save_state(state, path)
        listed = f"{path.relative_to(root).as_posix()} [output]"
        return io.NodeOutput(str(path), ui={"text": [listed]})


class AdaStateLoad(io.ComfyNode):
    """Load a stream from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare inputs and outputs."""
        return io.Schema(
            node_id="AdaStateLoad",
            display_name="Load State",
            category=CATEGORY,
            description="Load a stream that was saved.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=_state_files(),
                    tooltip="A file that Save State wrote, from the output or the input folder.",
                )
            ],
            outputs=[state_output("The stream as it was saved.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """Change when the file changes."""
        path = _resolve(file)
        stat = path.stat()
        return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Check the name before anything runs; files saved since the page was loaded count."""
        try:
            _resolve(file)
        except StateFileError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Read and check the file."""
        return io.NodeOutput(load_state(_resolve(file)))


def _state_files() -> list[str]:
    """List state files of the output and the input folder, newest first."""
    found = []
    for root, mark in _roots():
        for path in root.rglob(f"*{SUFFIX}"):
            if path.is_file() and not path.name.startswith("."):
                found.append((path.stat().st_mtime, f"{path.relative_to(root).as_posix()} {mark}"))
    return [name for _, name in sorted(found, reverse=True)]


def _roots() -> list[tuple[Path, str]]:
    return [
        (Path(folder_paths.get_output_directory()), "[output]"),
        (Path(folder_paths.get_input_directory()), "[input]"),
    ]


def _resolve(file: str) -> Path:
    """Turn a listed name into a path inside one of the two folders."""
    roots = {mark: root.resolve() for root, mark in _roots()}
    name, _, mark = file.rpartition(" ")
    if mark not in roots:
        name, mark = file, "[output]"
    path = (roots[mark] / name).resolve()
    if roots[mark] not in path.parents or not path.name.endswith(SUFFIX) or not path.is_file():
        raise StateFileError(
            "state file",
            seen=repr(file),
            expected=f"an existing *{SUFFIX} file in the output or input folder",
            remedy="pick a file in Load State",
        )
    return path


def _number(path: Path, stem: str) -> int:
    digits = path.name.removesuffix(SUFFIX).removeprefix(f"{stem}_")
    return int(digits) if digits.isdigit() else 0
