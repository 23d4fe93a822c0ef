"""How chunks, video frames and seconds count each other.

A video VAE makes one frame of its first latent frame and several of every later one, so the chunk
that begins a video is shorter than the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Pace:
    """How long chunks are.

    >>> pace = Pace(chunk_frames=3, time_stride=4, fps=16)
    >>> pace.chunk_at(seconds=1.0)
    1
    >>> pace.describe(12, begins=True)
    '12 chunks = 141 frames, 8.8 s'

    Args:
        chunk_frames: Content latent frames of a chunk (F).
        time_stride: Video frames of one latent frame (s), on average.
        fps: Video frames per second.
        short_first: Whether the first latent frame of a video is one video frame.
    """

    chunk_frames: int
    time_stride: int | Fraction
    fps: float
    short_first: bool = True

    def chunk_at(self, seconds: float) -> int:
        """Return the chunk of a moment: chunk 0 has s (F - 1) + 1 frames, or s F like others."""
        frame = math.floor(seconds * self.fps + 1e-6)
        first = self.frames_of(1, begins=True)
        if frame < first:
            return 0
        return 1 + int((frame - first) // (self.time_stride * self.chunk_frames))

    def frames_of(self, chunks: int, *, begins: bool) -> int:
        """Return the video frames of some chunks.

        Args:
            chunks: How many.
            begins: Whether the first of them begins the video.
        """
        begins = begins and self.short_first
        return video_frames(chunks * self.chunk_frames, self.time_stride, begins=begins)

    def seconds_of(self, chunks: int, *, begins: bool) -> float:
        """Return how long some chunks last; the arguments are those of `frames_of`."""
        return self.frames_of(chunks, begins=begins) / self.fps

    def chunks_for(self, seconds: float, *, begins: bool) -> int:
        """Return how many chunks last at least so long, 1 or more.

        Args:
            seconds: How long.
            begins: Whether the first of them begins the video.
        """
        # Not quite all of a frame: 0.1 s at 30 fps are 3 frames, whatever 0.1 * 30 is.
        missing = (self.time_stride - 1) * (begins and self.short_first)
        frames = math.ceil(seconds * self.fps - 1e-6) + missing
        return max(1, int(-(-frames // (self.chunk_frames * self.time_stride))))

    def describe(self, chunks: int, *, begins: bool) -> str:
        """Say how long some chunks are; the arguments are those of `frames_of`."""
        frames = self.frames_of(chunks, begins=begins)
        return (
            f"{count_of(chunks, 'chunk')} = {count_of(frames, 'frame')}, {frames / self.fps:.1f} s"
        )


def video_frames(latent_frames: int, time_stride: int | Fraction, *, begins: bool = True) -> int:
    """Return the video frames of latent frames.

    >>> video_frames(21, time_stride=4), video_frames(3, time_stride=4, begins=False)
    (81, 12)

    Args:
        latent_frames: How many.
        time_stride: Video frames of one latent frame after the first (s).
        begins: Whether the first of them begins the video.
    """
    missing = time_stride - 1 if begins and latent_frames else 0
    return int(latent_frames * time_stride - missing)


def count_of(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count_of(1, "chunk"), count_of(12, "chunk")
    ('1 chunk', '12 chunks')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
