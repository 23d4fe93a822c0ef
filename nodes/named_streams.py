"""Keep a stream in a folder, which the same workflow continues every time it is queued."""

from __future__ import annotations

from comfy_api.latest import io

from ..adastate_comfy.named_streams import (
    check_name,
    commit_one,
    open_one,
    revision_of,
    stream_version,
)
from ..adastate_comfy.progress import write_under
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, state_input, state_output


class AdaStateOpenStream(io.ComfyNode):
    """Open a named stream where it was left."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateOpenStream",
            display_name="Open Stream",
            category=f"{CATEGORY}/stream",
            description="Open a named stream where Commit Stream left it.",
            search_aliases=["resume", "continue", "named stream", "persistent"],
            inputs=[
                io.String.Input(
                    "name",
                    default="my stream",
                    socketless=True,
                    tooltip=(
                        "Name of the stream: letters, digits, spaces, dots, - and _. It is a "
                        "folder in adastate/streams under ComfyUI's output folder."
                    ),
                ),
                state_input(
                    "start",
                    tooltip=(
                        "What to begin with when there is no stream of this name, such as New "
                        "Stream. Later it is ignored."
                    ),
                ),
            ],
            outputs=[
                state_output("The stream as it was committed last, or start."),
                io.Int.Output(
                    "revision",
                    display_name="revision",
                    tooltip="How often it was committed; 0 while there is none.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None, start: None = None) -> str | float:
        """Change with every commit."""
        return stream_version(name)

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        """Check the name before anything runs."""
        return check_name(name)

    @classmethod
    def execute(cls, name: str, start: StreamState) -> io.NodeOutput:
        """Read and check the folder."""
        state, text = open_one(name, start)
        write_under(cls.hidden.unique_id, text)
        return io.NodeOutput(state, revision_of(state))


class AdaStateCommitStream(io.ComfyNode):
    """Make a state the newest revision of the stream it was opened from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateCommitStream",
            display_name="Commit Stream",
            category=f"{CATEGORY}/stream",
            description="Keep what was added to a stream that Open Stream opened.",
            search_aliases=["named stream", "persistent", "save stream"],
            is_output_node=True,
            # Else ComfyUI would run this once for every item of a list in `after`.
            is_input_list=True,
            inputs=[
                state_input(tooltip="The stream to keep. It has to come from Open Stream."),
                io.AnyType.Input(
                    "after",
                    optional=True,
                    tooltip=(
                        "Whatever has to succeed first, such as the saved video. If it fails, "
                        "nothing is committed, and the next run makes the same chunks."
                    ),
                ),
            ],
            outputs=[
                state_output("The same stream, committed. More chunks may follow."),
                io.Int.Output(
                    "revision", display_name="revision", tooltip="How often it was committed."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, state: object = None, after: object = None) -> float:
        """Commit whenever it is queued, also what ComfyUI has cached."""
        return float("nan")

    @classmethod
    def execute(cls, state: list[StreamState], after: list[object] | None = None) -> io.NodeOutput:
        """Write what is new; a state that cannot be committed is saved beside the stream."""
        hidden = cls.hidden
        committed, text = commit_one(state, hidden.prompt, hidden.extra_pnginfo)
        write_under(hidden.unique_id, text)
        return io.NodeOutput(committed, revision_of(committed), ui={"text": [text]})
