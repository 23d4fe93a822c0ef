"""No anchor: a sliding window with chunk-relative indices and nothing in slot 0."""

from __future__ import annotations

from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, SlotLayout, newest, place, refs
from .policy import Averages


class NoAnchor:
    """The policy that leaves slot 0 empty."""

    averages: Averages = "none"

    def state_frames(self, config: StreamConfig) -> int:
        """Return 0: without an anchor there is no state to denoise."""
        return 0

    def sink_frames(self, config: StreamConfig) -> int:
        """Return 0: slot 0 stays empty."""
        return 0

    def kept_frames(self, config: StreamConfig) -> int:
        """Count the window."""
        return config.window_frames

    def layout(self, config: StreamConfig, cached: CachedFrames) -> SlotLayout:
        """Place the window at the front."""
        return place(
            reserved=0,
            anchor=0,
            state=(),
            window=min(len(cached.window), config.window_frames),
            window_slots=config.window_frames,
            content=config.chunk_frames,
            grow=config.warmup_positions == "grow",
            committed=cached.committed if config.positions == "absolute" else None,
        )

    def commit(self, config: StreamConfig, cached: CachedFrames, *, hold: bool) -> CommitPlan:
        """Keep the newest content, and evict whatever slot 0 held."""
        candidates = refs("window", len(cached.window)) + refs("content", config.chunk_frames)
        return CommitPlan(anchor=(), window=newest(candidates, config.window_frames))
