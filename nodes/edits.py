"""Edit a stream between two steps: transition, blend, rewind. None of these needs a model."""

from __future__ import annotations

from typing import Literal

from comfy_api.latest import io

from ..adastate_core.config import MAX_FRAMES
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, state_input, state_output


class AdaStateTransition(io.ComfyNode):
    """Prepare a stream for another prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTransition",
            display_name="Prepare Transition",
            category=f"{CATEGORY}/stream",
            description="Prepare a stream for another prompt in the next Stream Chunks.",
            search_aliases=["prompt switch", "recache", "flush"],
            inputs=[
                state_input(tooltip="The stream whose prompt is about to change."),
                io.Combo.Input(
                    "transition",
                    options=["recache", "flush"],
                    default="recache",
                    tooltip=(
                        "recache: compute anchor and window again under the new prompt; the scene "
                        "stays, and follows the new prompt sooner.\n"
                        "flush: keep only the anchor and the newest frames; a faster change."
                    ),
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=0,
                    max=MAX_FRAMES,
                    tooltip="How many latent frames of the window a flush keeps.",
                ),
            ],
            outputs=[state_output()],
        )

    @classmethod
    def execute(
        cls, state: StreamState, transition: Literal["recache", "flush"], frames: int
    ) -> io.NodeOutput:
        """Edit the value."""
        after = state.recache() if transition == "recache" else state.flush(frames)
        return io.NodeOutput(after)


class AdaStateBlend(io.ComfyNode):
    """Mix the memories of two streams."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateBlend",
            display_name="Blend States",
            category=f"{CATEGORY}/state",
            description="Continue one stream with a memory mixed from two.",
            inputs=[
                state_input("a", "The stream to continue; frames and chunk numbers stay its own."),
                state_input("b", "A stream of the same model and size, to mix in."),
                io.Float.Input(
                    "factor",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip=(
                        "Share of b in the hidden state and the window: 0 is a's memory, 1 is b's."
                    ),
                ),
            ],
            outputs=[state_output("Stream a with the mixed memory.")],
        )

    @classmethod
    def execute(cls, a: StreamState, b: StreamState, factor: float) -> io.NodeOutput:
        """Edit the value; the mix is committed when the next chunk is made."""
        return io.NodeOutput(a.blend(b, factor))


class AdaStateRewind(io.ComfyNode):
    """Go back to an earlier chunk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateRewind",
            display_name="Rewind",
            category=f"{CATEGORY}/state",
            description="Remove the newest chunks of a stream.",
            inputs=[
                state_input(tooltip="The stream to rewind."),
                io.Int.Input(
                    "chunk",
                    default=-2,
                    min=-100000,
                    max=100000,
                    tooltip=(
                        "The last chunk that stays. Negative numbers count from the newest one: "
                        "-2 removes one chunk."
                    ),
                ),
            ],
            outputs=[state_output("The stream as it was after that chunk.")],
        )

    @classmethod
    def execute(cls, state: StreamState, chunk: int) -> io.NodeOutput:
        """Edit the value."""
        return io.NodeOutput(state.rewind(chunk))
