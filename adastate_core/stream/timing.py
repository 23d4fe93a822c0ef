"""Give a stream the clock of its model, once that is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..clock import StreamClock
from ..errors import StateMismatchError
from .events import GivenLatentsEvent
from .state import StreamState


def with_clock(state: StreamState, clock: StreamClock | None) -> StreamState:
    """Return a stream with the clock of the model that continues it.

    Latents that were given before are cut to it: a clip ends with a whole pattern of frames, and
    its sound with the clip. What is missing of the sound is as the last of it.

    Args:
        state: The stream.
        clock: The clock; None for a model that needs none.

    Raises:
        StateMismatchError: If the stream runs by another clock.
    """
    if state.clock == clock or clock is None:
        return state
    if state.clock is not None:
        raise StateMismatchError(
            "speed of the stream",
            problem="this stream was made at another frame rate than the prompt now says",
            seen=f"{float(clock.period):g} latents of sound to a latent frame",
            expected=f"{float(state.clock.period):g}",
            remedy="set the frame_rate that the stream was begun with, or begin a new one",
        )
    events = state.events
    for position, event in enumerate(events):
        if isinstance(event, GivenLatentsEvent) and event.content is not None:
            events = events.replaced(position, _cut(event, event.content, clock))
    return replace(state, clock=clock, events=events)


def _cut(event: GivenLatentsEvent, content: Tensor, clock: StreamClock) -> GivenLatentsEvent:
    frames = content.shape[2]
    if frames > clock.pattern:
        frames -= frames % clock.pattern
    sound = event.sound
    if sound is not None:
        sound = fitted(sound, clock.ticks_of(event.frame, frames))
    return replace(event, content=content[:, :, :frames].clone(), sound=sound)


def fitted(sound: Tensor, ticks: int) -> Tensor:
    """Return the first latents of a sound, (B, C, T, R), and its last one for those it lacks."""
    missing = max(ticks - sound.shape[2], 0)
    return torch.cat([sound[:, :, :ticks], *[sound[:, :, -1:]] * missing], dim=2)
