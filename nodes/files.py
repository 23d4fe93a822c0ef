"""Save a stream to a file and load it back."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..adastate_comfy.output_names import place
from ..adastate_comfy.sockets.latents import latent_format
from ..adastate_core.errors import StateFileError
from ..adastate_core.files.state_file import SUFFIX, load_state, save_claimed
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, state_input, state_output


class AdaStateSave(io.ComfyNode):
    """Save a stream to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
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
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, state: StreamState, filename_prefix: str) -> io.NodeOutput:
        """Write the next numbered file of this prefix."""
        hidden = cls.hidden
        target = place(
            filename_prefix, _size(state), [f"_00001{SUFFIX}"], hidden.prompt, hidden.extra_pnginfo
        )
        path = target.claim("_{:05}", [SUFFIX])
        save_claimed(state, path)
        listed = f"{(Path(target.subfolder) / path.name).as_posix()} [output]"
        return io.NodeOutput(str(path), ui={"text": [listed]})


class AdaStateLoad(io.ComfyNode):
    """Load a stream from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
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
            if _holds_a_state(path):
                found.append((path.stat().st_mtime, f"{path.relative_to(root).as_posix()} {mark}"))
    return [name for _, name in sorted(found, reverse=True)]


def _holds_a_state(path: Path) -> bool:
    """Tell files of states from names that are taken for one that is being written."""
    return path.is_file() and not path.name.startswith(".") and path.stat().st_size > 0


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


def _size(state: StreamState) -> tuple[int, int]:
    """Return width and height of the stream's pictures, as far as its latent format says."""
    scale = latent_format(state.latent_format).spacial_downscale_ratio if state.latent_format else 8
    return state.latent_shape[3] * scale, state.latent_shape[2] * scale
