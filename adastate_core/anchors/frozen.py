"""Frozen anchor: the first content frames of the stream stay in slot 0 forever.

The static sink of LongLive (branch v1.0) and Infinity-RoPE.
"""

from __future__ import annotations

from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, SlotLayout, newest, place, refs
from .policy import Averages


class FrozenAnchor:
    """The policy that keeps the first `anchor_frames` content frames."""

    averages: Averages = "none"

    def state_frames(self, config: StreamConfig) -> int:
        """Return 0: a frozen anchor has no state."""
        return 0

    def sink_frames(self, config: StreamConfig) -> int:
        """Count the first frames of the stream that are kept."""
        return config.anchor_frames

    def kept_frames(self, config: StreamConfig) -> int:
        """Count these and the window."""
        return config.anchor_frames + config.window_frames

    def layout(self, config: StreamConfig, cached: CachedFrames) -> SlotLayout:
        """Place the kept frames at the front."""
        grow = config.warmup_positions == "grow"
        anchor = min(len(cached.anchor), config.anchor_frames)
        return place(
            reserved=anchor if grow else config.anchor_frames,
            anchor=anchor,
            state=(),
            window=min(len(cached.window), config.window_frames),
            window_slots=config.window_frames,
            content=config.chunk_frames,
            grow=grow,
            committed=cached.committed if config.positions == "absolute" else None,
        )

    def commit(self, config: StreamConfig, cached: CachedFrames, *, hold: bool) -> CommitPlan:
        """Fill slot 0 from the first content, then leave it alone.

        A frame is in slot 0 or in the window, never in both: attending to it twice would
        double its weight. While slot 0 is being filled the window is therefore empty, which
        also tells filling from a shorter anchor that another policy left. With `hold`, an
        anchor that has begun to fill stays as it is.
        """
        content = refs("content", config.chunk_frames)
        complete = len(cached.anchor) >= config.anchor_frames or (hold and cached.anchor)
        filling = not cached.window and not complete
        taken = config.anchor_frames - len(cached.anchor) if filling else 0
        candidates = refs("window", len(cached.window)) + content[taken:]
        return CommitPlan(
            anchor=refs("anchor", len(cached.anchor)) + content[:taken],
            window=newest(candidates, config.window_frames),
        )
