"""How many of its chunks a stream keeps while it is rendered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeGuard

from torch import Tensor

from ...adastate_core.stream.events import ChunkEvent, Event, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from .decoders import LOOK_BACK, ChunkDecoder

HISTORY = -(-LOOK_BACK // 3)
"""Chunks of 3 with which a video that is continued goes on exactly; the default of the widget."""


def with_render_history(state: StreamState, wanted: int, chunk_frames: int) -> StreamState:
    """Return the stream with the history that a render keeps.

    A number that the artist has chosen counts. The default means: enough for the next video to go
    on exactly, and never less than the stream keeps already. A named stream keeps what it was made
    with, since chunks that it drops are deleted from its folder.

    Args:
        state: The stream so far.
        wanted: The widget.
        chunk_frames: Latent frames of the chunks to come.
    """
    enough = _enough(state, wanted, chunk_frames)
    if wanted != HISTORY:
        return replace(state, history_chunks=enough)
    if state.history_chunks:
        return replace(state, history_chunks=max(state.history_chunks, enough))
    if state.origin is not None:
        return state
    held = sum(event.content is not None for event in state.chunks)
    return replace(state, history_chunks=enough if held <= enough else held + enough)


def joins_exactly(state: StreamState, decoder: ChunkDecoder) -> bool:
    """Say whether a decoder that sees what is kept goes on as if it had seen everything.

    It does if that is as much as it needs, or all there ever was.
    """
    first, frames = state.next_frame, 0
    for event in _shown_before(state):
        if event.content is None:
            return False
        frames += event.content.shape[2]
        if _sees_enough(decoder, frames, first):
            return True
    return True


def newest_parts(state: StreamState, decoder: ChunkDecoder, part: int) -> list[Tensor]:
    """Return the newest latents of a stream that a decoder has to see, in order.

    Args:
        state: The stream.
        decoder: The decoder.
        part: Latent frames of a part, at most.
    """
    first, frames = state.next_frame, 0
    parts: list[Tensor] = []
    contents = (event.content for event in _shown_before(state))
    known = (each.split(part, dim=2)[::-1] for each in contents if each is not None)
    for latents in chain.from_iterable(known):
        if _sees_enough(decoder, frames, first):
            break
        parts.append(latents)
        frames += latents.shape[2]
    return parts[::-1]


def newest_sound(state: StreamState, wanted: int) -> list[Tensor]:
    """Return the newest sound latents of a stream without a gap, in order, at least so many."""
    found: list[Tensor] = []
    for event in _shown_before(state):
        sound = sound_of(event)
        if sound is None or sum(each.shape[2] for each in found) >= wanted:
            break
        found.append(sound)
    return found[::-1]


def sound_joins_exactly(state: StreamState, wanted: int) -> bool:
    """Say whether the sound goes on as if all of it were known, if so many latents have to be."""
    ticks = 0
    for event in _shown_before(state):
        sound = sound_of(event)
        if sound is None:
            return event.content is not None  # it never had any
        ticks += sound.shape[2]
        if ticks >= wanted:
            return True
    return True


def given_parts(state: StreamState, part: int) -> list[Tensor]:
    """Return the latents that a stream begins with, in parts."""
    return [
        latents
        for event in state.events
        if _is_start(event) and event.content is not None
        for latents in event.content.split(part, dim=2)
    ]


def sound_of(event: Event | None) -> Tensor | None:
    """Return the sound latents of an event, (B, C, T, R), or None."""
    return event.sound if isinstance(event, (ChunkEvent, GivenLatentsEvent)) else None


def _shown_before(state: StreamState) -> Iterator[ChunkEvent | GivenLatentsEvent]:
    """Yield what videos of a stream show, newest first."""
    for event in reversed(state.events):
        if isinstance(event, ChunkEvent) or _is_start(event):
            yield event


def _sees_enough(decoder: ChunkDecoder, frames: int, first: int) -> bool:
    # What begins a stream anew begins no new video, so that its frame 0 says nothing.
    return frames >= LOOK_BACK or (first > frames > 0 and decoder.may_begin(first - frames, first))


def _is_start(event: Event) -> TypeGuard[GivenLatentsEvent]:
    return isinstance(event, GivenLatentsEvent) and event.reason == "start"


def _enough(state: StreamState, wanted: int, chunk_frames: int) -> int:
    """Return the chunks to keep, in which a number that is enough for chunks of 3 stays enough."""
    if wanted < HISTORY:
        return wanted
    frames = chunks = 0
    for event in reversed(list(state.chunks)):
        if event.content is None or frames >= LOOK_BACK:
            break
        frames += event.content.shape[2]
        chunks += 1
    return max(wanted, -(-LOOK_BACK // chunk_frames), chunks)
