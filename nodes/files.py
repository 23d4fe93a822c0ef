"""Save a stream to a file and load it back."""

from __future__ import annotations

from comfy_api.latest import io

from ..adastate_comfy.progress import write_under
from ..adastate_comfy.state_files import (
    file_version,
    find_state_file,
    list_state_files,
    save_numbered,
)
from ..adastate_core.errors import StateFileError
from ..adastate_core.files.state_file import SUFFIX, load_state
from ..adastate_core.stream.pace import count_of
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, state_input, state_output


class AdaStateSave(io.ComfyNode):
    """Save a stream to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateSave",
            display_name="Save State",
            category=f"{CATEGORY}/state",
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
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, state: StreamState, filename_prefix: str) -> io.NodeOutput:
        """Write the next numbered file of this prefix."""
        hidden = cls.hidden
        path, listed = save_numbered(state, filename_prefix, hidden.prompt, hidden.extra_pnginfo)
        write_under(
            hidden.unique_id, f"saved {listed.removesuffix(' [output]').removesuffix(SUFFIX)}"
        )
        return io.NodeOutput(str(path), ui={"text": [listed]})


class AdaStateLoad(io.ComfyNode):
    """Load a stream from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateLoad",
            display_name="Load State",
            category=f"{CATEGORY}/state",
            description="Load a stream that was saved.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=list_state_files(),
                    tooltip="A file that Save State wrote, from the output or the input folder.",
                )
            ],
            outputs=[state_output("The stream as it was saved.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """Change when the file changes."""
        return file_version(find_state_file(file))

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Check the name before anything runs; files saved since the page was loaded count."""
        try:
            find_state_file(file)
        except StateFileError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Read and check the file."""
        state = load_state(find_state_file(file))
        write_under(cls.hidden.unique_id, count_of(state.chunk_index, "chunk"))
        return io.NodeOutput(state)
