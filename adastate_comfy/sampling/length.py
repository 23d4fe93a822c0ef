"""How long a run gets: a number of chunks, or as many as make so many seconds."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher

from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.pace import Pace, count_of
from ...adastate_core.stream.state import StreamState
from ..model.binding import BoundModel, bound_model


def pace_of(bound: BoundModel, fps: float) -> Pace:
    """Return how long the chunks of a model are."""
    traits = bound.traits
    return Pace(bound.config.chunk_frames, traits.time_stride, fps, traits.short_first)


def chunks_wanted(
    model: ModelPatcher,
    state: StreamState,
    chunks: int,
    seconds: float,
    fps: float,
    *,
    most: int,
) -> int:
    """Return how many chunks to make.

    Args:
        model: A MODEL that went through Apply AdaState.
        state: The stream so far.
        chunks: How many, if no seconds are given.
        seconds: How much video to add; 0 for none given.
        fps: Frames per second of the video.
        most: Chunks that the node can make.

    Raises:
        ConfigError: If so many seconds are more chunks than the node can make.
    """
    if seconds <= 0:
        return chunks
    pace, begins = pace_of(bound_model(model), fps), state.next_frame == 0
    wanted = pace.chunks_for(seconds, begins=begins)
    if wanted > most:
        longest = int(pace.seconds_of(most, begins=begins))
        raise ConfigError(
            "seconds",
            problem=f"{seconds:g} seconds are {count_of(wanted, 'chunk')}, and this node makes at "
            f"most {most}",
            seen=seconds,
            expected=f"at most {longest} seconds at {fps:g} frames per second",
            remedy=f"set seconds to {longest} or less, and continue the stream in another run",
        )
    return wanted
