"""Decode Stream: pictures of a stream, part by part, without seams and at constant memory."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..adastate_core.errors import ConfigError
from ..adastate_core.record import RootEntry
from ..adastate_core.state import StreamState
from .latents import from_model_space
from .pictures import open_decoder
from .sockets import CATEGORY, state_input

START = -1
"""Stands for the given frames in front of chunk 0."""


class AdaStateDecode(io.ComfyNode):
    """Decode chunks of a stream as parts of one video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare inputs and outputs."""
        return io.Schema(
            node_id="AdaStateDecode",
            display_name="Decode Stream",
            category=CATEGORY,
            description="Decode chunks of a stream as parts of one video, without seams.",
            search_aliases=["vae decode", "streaming decode", "seamless"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of Wan 2.1 or Wan 2.2."),
                state_input(tooltip="The stream to decode."),
                io.Int.Input(
                    "first_chunk",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip=(
                        "Chunk to begin with. Earlier ones are decoded too, but not kept, so that "
                        "the pictures are those of the whole video."
                    ),
                ),
                io.Int.Input(
                    "chunks",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="How many chunks; 0 goes to the end.",
                ),
                io.Boolean.Input(
                    "include_start",
                    default=True,
                    tooltip=(
                        "Whether the given frames of a stream that continues a picture or clip are "
                        "part of the video."
                    ),
                ),
            ],
            outputs=[io.Image.Output(tooltip="The pictures of these chunks.")],
        )

    @classmethod
    def execute(
        cls, vae: Any, state: StreamState, first_chunk: int, chunks: int, include_start: bool
    ) -> io.NodeOutput:
        """Decode from the start, and keep what was asked for."""
        parts = _parts(state, include_start)
        last = first_chunk + chunks - 1 if chunks else state.chunk_index
        first = START if include_start and first_chunk == 0 else first_chunk
        wanted = [index for index, _ in parts if first <= index <= last]
        if not wanted:
            raise ConfigError(
                "first_chunk",
                seen=first_chunk,
                expected=_remembered(parts),
                remedy="change first_chunk on Decode Stream, or stream that chunk first",
            )
        images = _decoded(vae, state, [p for p in parts if p[0] <= wanted[-1]], set(wanted))
        return io.NodeOutput(images.flatten(0, 1))


def _parts(state: StreamState, include_start: bool) -> list[tuple[int, Tensor]]:
    """Return the remembered latents as they are recorded, in order, by chunk."""
    parts = [
        (START, entry.content)
        for entry in state.entries
        if isinstance(entry, RootEntry) and entry.reason == "start" and include_start
        if entry.content is not None
    ]
    parts += [(e.index, e.content) for e in state.chunks if e.content is not None]
    return parts


def _decoded(
    vae: Any, state: StreamState, parts: list[tuple[int, Tensor]], wanted: set[int]
) -> Tensor:
    """Decode all parts and return the pictures of the wanted ones, (B, frames, H, W, 3)."""
    largest = max((latents for _, latents in parts), key=lambda latents: latents.shape[2])
    decoder = open_decoder(vae, tuple(largest.shape))
    decoder.load()
    bar, images = comfy.utils.ProgressBar(len(parts)), []
    for index, latents in parts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Brought to VAE space one by one: all at once would double a long stream's latents.
        pictures = decoder.decode(from_model_space(state, latents)["samples"])
        if index in wanted:
            images.append(pictures)
        bar.update(1)
    return torch.cat(images, dim=1)


def _remembered(parts: list[tuple[int, Tensor]]) -> str:
    chunks = [index for index, _ in parts if index != START]
    return f"a chunk that is remembered ({chunks[0]} to {chunks[-1]})" if chunks else "a chunk"
