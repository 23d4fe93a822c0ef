"""Images of a stream or of a long latent, decoded part by part.

A causal decoder has to see a video from its beginning, and others look at what follows. So a plan
lists all latents in order, and says which of them are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import comfy.model_management
import comfy.utils
import torch
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.events import ChunkEvent, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from ...adastate_core.vae.sound import SoundVae
from ..sockets.latents import from_model_space, tracks_of, video_samples
from .decoders import ChunkDecoder, open_decoder
from .stream_sound import SoundPart, SoundReader

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
        anew: Whether a video begins with them: they do not go on where the part before ends.
    """

    number: int
    latents: Tensor
    anew: bool = False


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """What there is to decode, and what to keep of it.

    Args:
        parts: All parts of the video, in order.
        wanted: Numbers of the parts whose images are kept, one after the other.
        state: The stream, if the parts are in its model's space and not in the VAE's.
        sounds: The sound of the video, in order; none where it has no sound at all.
        host_sound: Whether the sound is as ComfyUI's LATENT sockets carry it.
    """

    parts: list[LatentPart]
    wanted: set[int]
    state: StreamState | None = None
    sounds: list[SoundPart] = field(default_factory=list)
    host_sound: bool = False

    def videos(self) -> Iterator[list[LatentPart]]:
        """Yield the parts of each video of which something is wanted."""
        begins = [at for at, part in enumerate(self.parts) if part.anew or at == 0]
        for begin, end in zip(begins, [*begins[1:], len(self.parts)], strict=True):
            parts = self.parts[begin:end]
            if any(part.number in self.wanted for part in parts):
                yield parts

    def before(self, parts: list[LatentPart]) -> int:
        """Return how many latent frames of a video are before those that are wanted."""
        first = min(self.wanted)
        return sum(part.latents.shape[2] for part in parts if part.number < first)

    def sees_enough(self, look_back: int) -> bool:
        """Say whether a decoder that looks so far back sees as much as of the whole video."""
        chunks = list(self.state.chunks) if self.state is not None else []
        if not chunks or chunks[0].content is not None:
            return True
        return self.before(self.parts) >= look_back - 1


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """What was decoded.

    Args:
        images: (B, frames, H, W, 3).
        numbers: The chunk that each frame belongs to.
        notes: What an artist should know about the images.
    """

    images: Tensor
    numbers: tuple[int, ...]
    notes: list[str]


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


def run_decoding(vae: VAE, plan: DecodePlan) -> DecodedVideo:
    """Decode what a plan wants, with what the decoder has to see around it."""
    largest = max((part.latents for part in plan.parts), key=lambda latents: latents.shape[2])
    kept: list[Tensor] = []
    numbers: list[int] = []
    for parts in plan.videos():
        decoder = open_decoder(vae, tuple(largest.shape))
        decoder.load()
        kept += _decoded(plan, parts, decoder)
        numbers += _numbers(plan, parts, decoder)
    notes = [decoder.note] if decoder.note else []
    if decoder.exact and not plan.sees_enough(decoder.look_back):
        notes.append(
            "the stream no longer keeps all frames that the VAE needs, so the first images may "
            "differ from those of the whole video"
        )
    return DecodedVideo(torch.cat(kept, dim=1), tuple(numbers), notes)


def _decoded(plan: DecodePlan, parts: list[LatentPart], decoder: ChunkDecoder) -> list[Tensor]:
    """Return the images of a video that are wanted."""
    first = plan.before(parts)
    end = first + sum(part.latents.shape[2] for part in parts if part.number in plan.wanted)
    skipped, begin = _beginning(parts, decoder, first)
    low, high = (decoder.frames_of(at - begin) for at in (first, end))
    parts = _up_to(parts[skipped:], end - begin + decoder.held_back)
    bar = comfy.utils.ProgressBar(len(parts))
    kept: list[Tensor] = []
    seen = 0
    for part in parts:
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Brought to VAE space one by one: together they would double a long stream's latents.
        samples = part.latents
        if plan.state is not None:
            samples = from_model_space(plan.state, samples)["samples"]
        images = decoder.decode(samples)
        # Nothing is taken of other parts: a view of nothing would keep all of their images.
        if low < seen + images.shape[1]:
            kept.append(images[:, max(0, low - seen) : high - seen])
        seen += images.shape[1]
        bar.update(1)
        if seen >= high:
            break
    bar.update_absolute(len(parts))
    if seen < high:
        kept.append(decoder.flush()[:, max(0, low - seen) : high - seen])
    return kept


def _numbers(plan: DecodePlan, parts: list[LatentPart], decoder: ChunkDecoder) -> list[int]:
    """Return the number of the part that each image belongs to, of those that are wanted."""
    numbers: list[int] = []
    at = 0
    for part in parts:
        end = at + part.latents.shape[2]
        if part.number in plan.wanted:
            numbers += [part.number] * (decoder.frames_of(end) - decoder.frames_of(at))
        at = end
    return numbers


def open_sound(vae: VAE, plan: DecodePlan) -> SoundReader:
    """Return what reads the sound of the parts that a plan wants.

    Raises:
        UnsupportedFamilyError: If the VAE is none of sound, or not that of this sound.
    """
    sounds = plan.sounds
    if plan.host_sound and sounds:
        known = SoundVae.of(getattr(vae, "first_stage_model", None))
        sounds = [
            replace(part, latents=known.from_host(part.latents))
            for part in sounds
            if part.latents is not None
        ]
    return SoundReader(vae, sounds, plan.wanted)


def _beginning(parts: list[LatentPart], decoder: ChunkDecoder, first: int) -> tuple[int, int]:
    """Return how many parts, and latent frames, need not be decoded before a latent frame."""
    skipped = begin = at = 0
    for index, part in enumerate(parts):
        if at > first:
            break
        if decoder.may_begin(at, first):
            skipped, begin = index, at
        at += part.latents.shape[2]
    return skipped, begin


def _up_to(parts: list[LatentPart], latents: int) -> list[LatentPart]:
    """Return as few of the first parts as hold so many latent frames, or all."""
    held = count = 0
    while count < len(parts) and held < latents:
        held += parts[count].latents.shape[2]
        count += 1
    return parts[:count]


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
    return DecodePlan(parts, wanted, state, _stream_sounds(state, include_start))


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
    parts = [LatentPart(0, latents) for latents in samples.split(PART_FRAMES, dim=2)]
    heard = [sound for sound in tracks_of(latent)[1:] if sound.numel()]
    sounds = [SoundPart(0, sound, 0) for sound in heard[-1:]]
    return DecodePlan(parts, {0}, sounds=sounds, host_sound=True)


def _stream_parts(state: StreamState, include_start: bool) -> list[LatentPart]:
    """Return the latents that a stream keeps, as they are recorded and in order.

    Where a few frames make a pattern, each chunk begins with one: a start that ends in the middle
    of one is a video of its own.
    """
    pattern = 1 if state.clock is None else state.clock.pattern
    parts: list[LatentPart] = []
    length = 0
    for number, event in _kept_events(state, include_start):
        if event.content is None:
            continue
        split = event.content.split(PART_FRAMES, dim=2)
        parts.append(LatentPart(number, split[0], anew=length % pattern > 0))
        parts += [LatentPart(number, latents) for latents in split[1:]]
        length = (0 if length % pattern else length) + event.content.shape[2]
    return parts


def _stream_sounds(state: StreamState, include_start: bool) -> list[SoundPart]:
    """Return the sound of what a stream keeps, or nothing if it has none at all."""
    sounds = []
    for number, event in _kept_events(state, include_start):
        if event.sound is not None:
            sounds.append(SoundPart(number, event.sound, event.sound.shape[2]))
        elif event.content is not None and state.clock is not None:
            ticks = state.clock.ticks_of(event.frame, event.content.shape[2])
            sounds.append(SoundPart(number, None, ticks))
    return sounds if any(part.latents is not None for part in sounds) else []


def _kept_events(
    state: StreamState, include_start: bool
) -> list[tuple[int, ChunkEvent | GivenLatentsEvent]]:
    given: list[tuple[int, ChunkEvent | GivenLatentsEvent]] = [
        (START, event)
        for event in state.events
        if isinstance(event, GivenLatentsEvent) and event.reason == "start" and include_start
    ]
    return given + [(event.index, event) for event in state.chunks]


def _kept_chunks(parts: list[LatentPart]) -> str:
    chunks = [part.number for part in parts if part.number != START]
    return f"a chunk that is kept ({chunks[0]} to {chunks[-1]})" if chunks else "a chunk"
