"""Slots and temporal indices, as plain integers.

A chunk's attention sees frames in this order: anchor | window | state | content. The two on
the left come from the cache, the two on the right are the block being denoised. This module
says at which temporal index each of them is and which frames a commit keeps; it knows no tensor.
Indices are relative to the chunk, so that they do not grow with the stream, or count the frames of
the stream: `StreamConfig.positions` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

FrameSource = Literal["anchor", "window", "state", "content"]

TrackName = Literal["video", "sound", "text"]
"""A sequence of tokens of a block, with a clock of its own; text has no latents and no past."""


class Tick(NamedTuple):
    """A latent of sound.

    Args:
        native: Place in time at which its keys were projected.
        phase: Where it is placed, seen from the frame that it belongs to.
    """

    native: float
    phase: float


@dataclass(frozen=True, slots=True)
class CachedFrames:
    """The frames that a KV cache holds.

    Args:
        anchor: Native temporal index of every frame in slot 0: the index at which its keys were
            projected. Whole for all but the first frame of some models.
        window: The same for every window frame, oldest first.
        committed: Content frames of the stream so far, also those that were not committed here.
        sound: The latents of sound that each frame has with it, those of slot 0 first; empty where
            no frame has any.
    """

    anchor: tuple[float, ...] = ()
    window: tuple[float, ...] = ()
    committed: int = 0
    sound: tuple[tuple[Tick, ...], ...] = ()

    @property
    def frames(self) -> int:
        """Count the frames held."""
        return len(self.anchor) + len(self.window)

    def units(self, track: TrackName) -> tuple[int, ...]:
        """Count the units of a track that come with each frame, those of slot 0 first."""
        if track == "video":
            return (1,) * self.frames
        return tuple(map(len, self.sound)) or (0,) * self.frames

    def ticks(self, frame: int) -> tuple[Tick, ...]:
        """Return the latents of sound of a frame, by its position."""
        return self.sound[frame] if self.sound else ()


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """The temporal index of every frame that takes part in a chunk.

    Args:
        anchor: Indices of the slot 0 frames that are read; empty if nothing is there.
        window: Indices of the window frames that are read, oldest first.
        state: Indices of the state frames being denoised.
        content: Indices of the content frames being denoised.
        chosen: Which frames of slot 0 are read, by position; None for the first ones.
    """

    anchor: tuple[int, ...]
    window: tuple[int, ...]
    state: tuple[int, ...]
    content: tuple[int, ...]
    chosen: tuple[int, ...] | None = None

    @property
    def picked(self) -> tuple[int, ...]:
        """Return the positions of the slot 0 frames that are read."""
        return tuple(range(len(self.anchor))) if self.chosen is None else self.chosen

    @property
    def block(self) -> tuple[int, ...]:
        """Return the indices of the denoised block, state first."""
        return self.state + self.content

    @property
    def context(self) -> tuple[int, ...]:
        """Return the indices of what is read from the cache, anchor first."""
        return self.anchor + self.window

    def in_pattern(self, pattern: int, window: tuple[float, ...]) -> SlotLayout:
        """Return the layout for a model whose places in time repeat after some frames only.

        The content begins with a pattern, and frames of the window keep their places in it.

        Args:
            pattern: Frames of a pattern.
            window: Native temporal indices of all frames of the window.
        """
        if pattern == 1:
            return self
        begin = -(-self.content[0] // pattern) * pattern
        indices: list[int] = []
        before = begin
        for native in reversed(window[len(window) - len(self.window) :]):
            before -= 1 + (before - 1 - int(native)) % pattern
            indices.append(before)
        content = tuple(range(begin, begin + len(self.content)))
        return replace(self, window=tuple(reversed(indices)), content=content)


@dataclass(frozen=True, slots=True)
class FrameRef:
    """One frame of the cache or of the block, by source and position."""

    source: FrameSource
    position: int


@dataclass(frozen=True, slots=True)
class FrameMix:
    """A weighted average of frames.

    Args:
        terms: Frames and their weights; the average has the place in time of the first.
        pooled: Whether it is also averaged over the image, and the same in every place.
    """

    terms: tuple[tuple[FrameRef, float], ...]
    pooled: bool = False


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """The frames that slot 0 and the window hold after a commit."""

    anchor: tuple[FrameRef | FrameMix, ...]
    window: tuple[FrameRef, ...]


def refs(source: FrameSource, count: int) -> tuple[FrameRef, ...]:
    """Refer to the first `count` frames of a source, in order."""
    return tuple(FrameRef(source, position) for position in range(count))


def newest(frames: tuple[FrameRef, ...], count: int) -> tuple[FrameRef, ...]:
    """Keep the last `count` frames."""
    return frames[len(frames) - min(count, len(frames)) :]


def place(
    *,
    reserved: int,
    anchor: int,
    state: tuple[int, ...],
    window: int,
    window_slots: int,
    content: int,
    grow: bool,
    committed: int | None = None,
) -> SlotLayout:
    """Lay a chunk out: `reserved` indices in front, then the window, then the content.

    A window that is not full is right-aligned, so its newest frame is always just before the
    content. With `grow`, missing window slots take no index. With `committed`, the number of
    frames so far, indices are absolute: the window ends where the stream has come to.

    >>> layout = place(
    ...     reserved=1, anchor=1, state=(0,), window=2, window_slots=3, content=3, grow=False
    ... )
    >>> layout.context, layout.block
    ((0, 2, 3), (0, 4, 5, 6))
    """
    window_end = reserved + (window if grow else window_slots) if committed is None else committed
    return SlotLayout(
        anchor=tuple(range(anchor)),
        window=tuple(range(window_end - window, window_end)),
        state=state,
        content=tuple(range(window_end, window_end + content)),
    )
