"""Begin a stream, look into it, and change its memory. None of these nodes needs a model."""

from __future__ import annotations

import json
from dataclasses import replace

from comfy_api.latest import io

from ..adastate_comfy.panel.place import place_of
from ..adastate_comfy.progress import write_under
from ..adastate_comfy.sockets.hidden_state import NOTHING_YET, ShownHidden
from ..adastate_comfy.sockets.latents import (
    latent_or_block,
    samples_for,
    sound_samples,
    video_samples,
)
from ..adastate_core.stream.events import HOLD_FOREVER, ResetScope
from ..adastate_core.stream.pace import count_of
from ..adastate_core.stream.state import StreamState
from ..adastate_core.stream.summary import describe_stream
from .inputs import CATEGORY, state_input, state_output


class AdaStateNewStream(io.ComfyNode):
    """Begin a stream."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateNewStream",
            display_name="New Stream",
            category=f"{CATEGORY}/stream",
            description="Begin a stream of a given size.",
            inputs=[
                io.Latent.Input(
                    "latent",
                    tooltip=(
                        "An empty video latent. Its width, height and batch size are used; its "
                        "length is not, since a stream has no end."
                    ),
                ),
                io.Latent.Input(
                    "start_latent",
                    optional=True,
                    tooltip="An encoded image or clip to continue from.",
                ),
                io.Int.Input(
                    "history_chunks",
                    default=0,
                    min=0,
                    max=100000,
                    advanced=True,
                    tooltip=(
                        "How many of the newest chunks the state keeps. 0 keeps all, so that its "
                        "memory can be rebuilt exactly. Set a number for endless streams."
                    ),
                ),
            ],
            outputs=[state_output("A stream that has not begun.")],
        )

    @classmethod
    def execute(
        cls,
        latent: io.Latent.Type,
        history_chunks: int,
        start_latent: io.Latent.Type | None = None,
    ) -> io.NodeOutput:
        """Take size and batch from the latent."""
        batch, channels, _, height, width = video_samples(latent, "New Stream").shape
        state = StreamState((batch, channels, height, width), history_chunks=history_chunks)
        sound = sound_samples(latent, "New Stream")
        if sound is not None:
            state = replace(state, sound_shape=(sound.shape[1], sound.shape[3]))
        if start_latent is not None:
            heard = sound_samples(start_latent, "start_latent") if sound is not None else None
            state = state.start_with(video_samples(start_latent, "start_latent"), heard)
        return io.NodeOutput(state)


class AdaStateRead(io.ComfyNode):
    """Look into a stream."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateRead",
            display_name="Read State",
            category=f"{CATEGORY}/state",
            description="Show the memory and the history of a stream.",
            inputs=[
                state_input(tooltip="The stream to look into."),
                io.Int.Input(
                    "first_chunk",
                    optional=True,
                    default=0,
                    min=0,
                    max=100000,
                    advanced=True,
                    tooltip="Leave frames before this chunk out of all content.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "hidden_state",
                    display_name="hidden state",
                    tooltip=(
                        "What slot 0 holds: the frame the model never shows. Decode it alone. "
                        "Where there is none, the newest frame."
                    ),
                ),
                io.Latent.Output(
                    "window",
                    display_name="window",
                    tooltip="The newest frames, which the next chunk attends to.",
                ),
                io.Latent.Output(
                    "content",
                    display_name="all content",
                    tooltip="Every frame so far. Decode it as one video.",
                ),
                io.Int.Output(
                    "chunk_index", display_name="chunk index", tooltip="Number of the next chunk."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What happened when, as JSON: chunks, seeds, resets, drift.",
                ),
                io.Latent.Output(
                    "hidden_states",
                    display_name="all hidden states",
                    tooltip=(
                        "The hidden state of every chunk, as a batch of single images. Where there "
                        "is none, the newest frame of every chunk."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, state: StreamState, first_chunk: int = 0) -> io.NodeOutput:
        """Return the parts of a state; nodes wired to what is not there yet are left out."""
        hidden, window = ShownHidden.of(state), state.context.window
        content = state.content(first_chunk)
        place = place_of(cls.hidden)
        if place is not None and not place.is_part:
            empty = window is None and content is None
            count = NOTHING_YET if empty else count_of(state.chunk_index, "chunk")
            write_under(place.node, hidden.note or count)
        return io.NodeOutput(
            latent_or_block(state, hidden.newest),
            latent_or_block(state, window, state.context.sound),
            latent_or_block(state, content, state.sound(first_chunk)),
            state.chunk_index,
            json.dumps(describe_stream(state), indent=2),
            latent_or_block(state, hidden.all),
        )


class AdaStateReset(io.ComfyNode):
    """Empty or seed parts of a stream's memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateReset",
            display_name="Reset State",
            category=f"{CATEGORY}/state",
            description="Empty the memory of a stream, or put something else in.",
            inputs=[
                state_input(tooltip="The stream to reset."),
                io.Combo.Input(
                    "scope",
                    options=["anchor", "window", "all"],
                    default="anchor",
                    tooltip=(
                        "anchor: remove the hidden state; motion continues, the look may change.\n"
                        "window: remove the newest frames; the scene continues, motion may jump.\n"
                        "all: remove both; a new scene begins."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="An encoded image or clip to put there instead.",
                ),
            ],
            outputs=[state_output()],
        )

    @classmethod
    def execute(
        cls, state: StreamState, scope: ResetScope, latent: io.Latent.Type | None = None
    ) -> io.NodeOutput:
        """Edit the value; the model's cache follows when the next chunk is made."""
        given = None if latent is None else samples_for(state, latent, "Reset State")
        return io.NodeOutput(state.reset(scope, given))


class AdaStateHold(io.ComfyNode):
    """Keep the anchor as it is for a while."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateHold",
            display_name="Hold Anchor",
            category=f"{CATEGORY}/state",
            description="Keep the anchor as it is for some chunks.",
            inputs=[
                state_input(tooltip="The stream whose anchor to hold."),
                io.Int.Input(
                    "chunks",
                    default=HOLD_FOREVER,
                    min=HOLD_FOREVER,
                    max=100000,
                    tooltip=(
                        "For how many chunks. -1 holds until the next Hold Anchor, 0 ends a hold. "
                        "On a stream that has not begun, the first hidden state is held."
                    ),
                ),
            ],
            outputs=[state_output()],
        )

    @classmethod
    def execute(cls, state: StreamState, chunks: int) -> io.NodeOutput:
        """Edit the value."""
        return io.NodeOutput(state.hold_anchor(chunks))
