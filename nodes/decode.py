"""Decode Stream: pictures of a stream or of a long latent, part by part, at constant memory."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..adastate_comfy.progress import write_under
from ..adastate_comfy.sockets.latents import from_model_space, video_samples
from ..adastate_comfy.video.decoders import LOOK_BACK, open_decoder
from ..adastate_core.errors import ConfigError
from ..adastate_core.stream.events import GivenLatentsEvent
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, AdaStateSocket

START = -1
"""Stands for the given frames in front of chunk 0."""
PART_FRAMES = 8
"""Latent frames that are decoded at a time, at most."""


class AdaStateDecode(io.ComfyNode):
    """Decode chunks of a stream as parts of one video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateDecode",
            display_name="Decode Stream",
            category=CATEGORY,
            description="Decode chunks of a stream as parts of one video, without seams.",
            search_aliases=["vae decode", "streaming decode", "seamless"],
            inputs=[
                io.Vae.Input(
                    "vae",
                    tooltip=(
                        "The VAE of the model. Those of Wan 2.1 and 2.2 and the tiny ones (TAEHV) "
                        "join exactly; others by overlap."
                    ),
                ),
                AdaStateSocket.Input(
                    "state", optional=True, tooltip="The stream to decode, unless a latent is."
                ),
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
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "A video latent to decode in place of a stream, all of it. Leave "
                        "first_chunk and chunks at 0."
                    ),
                ),
            ],
            outputs=[io.Image.Output(tooltip="The pictures of these chunks.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae: Any,
        state: StreamState | None = None,
        first_chunk: int = 0,
        chunks: int = 0,
        include_start: bool = True,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Decode from the start, and keep what was asked for."""
        if state is not None and latent is None:
            parts, wanted = _chunks_of(state, first_chunk, chunks, include_start)
        elif latent is not None and state is None:
            parts = _parts_of(latent, first_chunk, chunks)
            wanted = list(range(len(parts)))
        else:
            raise ConfigError(
                "Decode Stream",
                seen="both a state and a latent" if latent else "neither a state nor a latent",
                expected="one of them",
                remedy="connect state for a stream, or latent for frames of any other source",
            )
        images, notes = _decoded(vae, state, parts, set(wanted))
        if notes:
            write_under(cls.hidden.unique_id, "; ".join(notes))
        return io.NodeOutput(images.flatten(0, 1))


def _chunks_of(
    state: StreamState, first_chunk: int, chunks: int, include_start: bool
) -> tuple[list[tuple[int, Tensor]], list[int]]:
    """Return the latents to decode, by chunk, and the chunks to keep."""
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
    return [part for part in parts if part[0] <= wanted[-1]], wanted


def _parts_of(latent: dict[str, Any], first_chunk: int, chunks: int) -> list[tuple[int, Tensor]]:
    """Return a LATENT in parts."""
    if first_chunk or chunks:
        raise ConfigError(
            "first_chunk and chunks",
            seen=f"{first_chunk} and {chunks}",
            expected="0 and 0, since a latent has no chunks",
            remedy="set both to 0 on Decode Stream, or connect a state in place of the latent",
        )
    samples = video_samples({"samples": latent["samples"]}, "Decode Stream")
    return list(enumerate(samples.split(PART_FRAMES, dim=2)))


def _parts(state: StreamState, include_start: bool) -> list[tuple[int, Tensor]]:
    """Return the remembered latents as they are recorded, in order, by chunk.

    A start clip or a chunk that is long comes in several parts of one number.
    """
    parts = [
        (START, event.content)
        for event in state.events
        if isinstance(event, GivenLatentsEvent) and event.reason == "start" and include_start
        if event.content is not None
    ]
    parts += [(e.index, e.content) for e in state.chunks if e.content is not None]
    return [(index, part) for index, all_of in parts for part in all_of.split(PART_FRAMES, dim=2)]


def _decoded(
    vae: Any, state: StreamState | None, parts: list[tuple[int, Tensor]], wanted: set[int]
) -> tuple[Tensor, list[str]]:
    """Decode all parts; return the pictures of the wanted ones, (B, frames, H, W, 3), and notes.

    Parts of a stream are in its model's space, others in the VAE's.
    """
    largest = max((latents for _, latents in parts), key=lambda latents: latents.shape[2])
    decoder = open_decoder(vae, tuple(largest.shape))
    decoder.load()
    bar, images = comfy.utils.ProgressBar(len(parts)), []
    for index, latents in parts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Brought to VAE space one by one: all at once would double a long stream's latents.
        samples = from_model_space(state, latents)["samples"] if state else latents
        pictures = decoder.decode(samples)
        if index in wanted:
            images.append(pictures)
        bar.update(1)
    notes = [decoder.note] if decoder.note else []
    if decoder.exact and state is not None and not _seen(state, parts, wanted):
        notes.append(
            "the stream has forgotten frames that the VAE looks back at, so that the first "
            "pictures may differ from those of the whole video"
        )
    return torch.cat(images, dim=1), notes


def _seen(state: StreamState, parts: list[tuple[int, Tensor]], wanted: set[int]) -> bool:
    """Whether the decoder has seen all that it looks back at before the first wanted part."""
    chunks = list(state.chunks)
    if not chunks or chunks[0].content is not None:
        return True
    before = sum(latents.shape[2] for index, latents in parts if index < min(wanted))
    return before >= LOOK_BACK - 1


def _remembered(parts: list[tuple[int, Tensor]]) -> str:
    chunks = [index for index, _ in parts if index != START]
    return f"a chunk that is remembered ({chunks[0]} to {chunks[-1]})" if chunks else "a chunk"
