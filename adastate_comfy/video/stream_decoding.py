"""Images of a stream or of a long latent, decoded part by part.

A causal decoder has to see a video from its beginning. So a plan lists all latents up to the last
ones that are wanted, in order, and says which of them are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import torch
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.events import GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from ..sockets.latents import from_model_space, video_samples
from .decoders import LOOK_BACK, open_decoder

START = -1
"""Number of the given frames in front of chunk 0."""
PART_FRAMES = 8
"""Latent frames that are decoded at a time, at most."""


@dataclass(frozen=True, slots=True)
class LatentPart:
    """Latent frames that are decoded at a time.

    Args:
        number: The chunk that they belong to, or `START`. A long chunk has several parts.
        latents: (B, C, T, H, W).
    """

    number: int
    latents: Tensor


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """What to decode, and what to keep of it.

    Args:
        parts: All parts to decode, in order.
        wanted: Numbers of the parts whose images are kept.
        state: The stream, if the parts are in its model's space and not in the VAE's.
    """

    parts: list[LatentPart]
    wanted: set[int]
    state: StreamState | None = None

    def sees_enough(self) -> bool:
        """Say whether a causal decoder gives the same as if it had seen the whole video."""
        chunks = list(self.state.chunks) if self.state is not None else []
        if not chunks or chunks[0].content is not None:
            return True
        first = min(self.wanted)
        before = sum(part.latents.shape[2] for part in self.parts if part.number < first)
        return before >= LOOK_BACK - 1


def plan_decoding(
    state: StreamState | None,
    latent: io.Latent.Type | None,
    first_chunk: int,
    chunks: int,
    include_start: bool,
) -> DecodePlan:
    """Plan what Decode Stream decodes; the arguments are its inputs.

    Raises:
        ConfigError: If not exactly one of state and latent is given, or no such chunk is kept.
        LayoutError: If the latent is no video latent.
    """
    if state is not None and latent is None:
        return _plan_stream(state, first_chunk, chunks, include_start)
    if latent is not None and state is None:
        return _plan_latent(latent, first_chunk, chunks)
    raise ConfigError(
        "Decode Stream",
        problem="Decode Stream takes a stream or a latent, and was given "
        + ("both" if latent else "neither"),
        seen="both a state and a latent" if latent else "neither a state nor a latent",
        expected="one of them",
        remedy="connect state for a stream, or latent for other frames",
    )


def run_decoding(vae: VAE, plan: DecodePlan) -> tuple[Tensor, list[str]]:
    """Decode all parts of a plan and keep the images that are wanted.

    Returns:
        The images, (B, frames, H, W, 3), and what an artist should know about them.
    """
    largest = max((part.latents for part in plan.parts), key=lambda latents: latents.shape[2])
    decoder = open_decoder(vae, tuple(largest.shape))
    decoder.load()
    bar = comfy.utils.ProgressBar(len(plan.parts))
    kept: list[Tensor] = []
    for part in plan.parts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Brought to VAE space one by one: together they would double a long stream's latents.
        samples = part.latents
        if plan.state is not None:
            samples = from_model_space(plan.state, samples)["samples"]
        images = decoder.decode(samples)
        if part.number in plan.wanted:
            kept.append(images)
        bar.update(1)
    notes = [decoder.note] if decoder.note else []
    if decoder.exact and not plan.sees_enough():
        notes.append(
            "the stream no longer keeps all frames that the VAE needs, so the first images may "
            "differ from those of the whole video"
        )
    return torch.cat(kept, dim=1), notes


def _plan_stream(
    state: StreamState, first_chunk: int, chunks: int, include_start: bool
) -> DecodePlan:
    parts = _stream_parts(state, include_start)
    first = START if include_start and first_chunk == 0 else first_chunk
    last = first_chunk + chunks - 1 if chunks else state.chunk_index
    wanted = {part.number for part in parts if first <= part.number <= last}
    if not wanted:
        raise ConfigError(
            "first_chunk",
            problem=f"chunk {first_chunk} is not in this stream; it holds {_kept_chunks(parts)}",
            seen=first_chunk,
            expected=_kept_chunks(parts),
            remedy="change first_chunk on Decode Stream",
        )
    end = max(wanted)
    return DecodePlan([part for part in parts if part.number <= end], wanted, state)


def _plan_latent(latent: io.Latent.Type, first_chunk: int, chunks: int) -> DecodePlan:
    if first_chunk or chunks:
        raise ConfigError(
            "first_chunk and chunks",
            problem="a latent has no chunks to choose from",
            seen=f"{first_chunk} and {chunks}",
            expected="0 and 0, since a latent has no chunks",
            remedy=(
                "set first_chunk and chunks to 0 on Decode Stream, or connect a state in place of "
                "the latent"
            ),
        )
    # A noise mask says how a latent is made, and does not matter here.
    samples = video_samples({"samples": latent["samples"]}, "Decode Stream")
    split = samples.split(PART_FRAMES, dim=2)
    parts = [LatentPart(number, latents) for number, latents in enumerate(split)]
    return DecodePlan(parts, {part.number for part in parts})


def _stream_parts(state: StreamState, include_start: bool) -> list[LatentPart]:
    """Return the latents that a stream keeps, as they are recorded and in order."""
    given = [
        (START, event.content)
        for event in state.events
        if isinstance(event, GivenLatentsEvent) and event.reason == "start" and include_start
    ]
    made = [(event.index, event.content) for event in state.chunks]
    return [
        LatentPart(number, latents)
        for number, content in given + made
        if content is not None
        for latents in content.split(PART_FRAMES, dim=2)
    ]


def _kept_chunks(parts: list[LatentPart]) -> str:
    chunks = [part.number for part in parts if part.number != START]
    return f"a chunk that is kept ({chunks[0]} to {chunks[-1]})" if chunks else "a chunk"
