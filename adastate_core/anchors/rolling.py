"""Rolling anchor: the first frames of the stream stand in for its past, back and forth.

Rolling-Sink keeps the keys of the first frames. Once they are as many as a chunk attends to, they
are its past: backwards from the last one, then forwards again, each at the place in time of the
frame it stands for. Only the newest chunk before the current one is real. Its script also repeats
the noise of one chunk in every chunk; here every chunk has its own.
"""

from __future__ import annotations

from ..config import StreamConfig
from ..layout import CachedFrames, SlotLayout
from .frozen import FrozenAnchor


class RollingAnchor(FrozenAnchor):
    """The policy that goes through the first `anchor_frames` content frames, back and forth."""

    def layout(self, config: StreamConfig, cached: CachedFrames) -> SlotLayout:
        """Place the frames that stand for the past right before the window."""
        bank, window = len(cached.anchor), min(len(cached.window), config.window_frames)
        past = cached.committed - window
        picked = tuple(range(bank))
        if bank >= config.anchor_frames:
            first = max(cached.committed - config.anchor_frames, 0)
            picked = tuple(ping_pong(frame, config.anchor_frames) for frame in range(first, past))
        if config.positions == "relative":
            full = config.warmup_positions == "fixed"
            past = (config.anchor_frames if full else len(picked) + window) - window
        end = past + window
        return SlotLayout(
            anchor=tuple(range(past - len(picked), past)),
            window=tuple(range(past, end)),
            state=(),
            content=tuple(range(end, end + config.chunk_frames)),
            chosen=picked,
        )


def ping_pong(frame: int, size: int) -> int:
    """Return which of the first `size` frames stands for a frame of the stream.

    0 .. size - 1, then back, then forth again; the frame at either end comes twice in a row.
    """
    place = (frame + size) % (2 * size)
    return place - size if place >= size else size - 1 - place
