"""No anchor: a sliding window with chunk-relative indices and nothing in slot 0."""

from __future__ import annotations

from ..config import StreamConfig
from ..layout import CommitPlan, Occupancy, SlotLayout, newest, place, refs
from .policy import Averages


class NoAnchor:
    """Leave slot 0 empty."""

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

    def layout(self, config: StreamConfig, held: Occupancy) -> SlotLayout:
        """Place the window at the front."""
        return place(
            reserved=0,
            anchor=0,
            state=(),
            window=min(len(held.window), config.window_frames),
            window_slots=config.window_frames,
            content=config.chunk_frames,
            grow=config.warmup_positions == "grow",
            seen=held.seen if config.positions == "absolute" else None,
        )

    def commit(self, config: StreamConfig, held: Occupancy, *, hold: bool) -> CommitPlan:
        """Keep the newest content, drop whatever slot 0 held."""
        seen = refs("window", len(held.window)) + refs("content", config.chunk_frames)
        return CommitPlan(anchor=(), window=newest(seen, config.window_frames))
