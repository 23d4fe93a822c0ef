"""How many of its chunks a stream keeps while it is rendered."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

from ...adastate_core.stream.events import ChunkEvent, Event, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from .decoders import LOOK_BACK

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


def joins_exactly(state: StreamState) -> bool:
    """Say whether a decoder that sees what is kept goes on as if it had seen everything.

    It does if that is as much as it needs, or all there ever was.
    """
    frames = 0
    for event in reversed(state.events):
        if not (isinstance(event, ChunkEvent) or _is_start(event)):
            continue
        if event.content is None:
            return False
        frames += event.content.shape[2]
        if frames >= LOOK_BACK:
            return True
    return True


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
