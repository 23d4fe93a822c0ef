"""Adaptive anchor: slot 0 is the state that the model itself denoised with the last chunk.

The recurrence of AdaState (arXiv 2605.30349): every chunk overwrites slot 0 with the keys
and values of its own state.
"""

from __future__ import annotations

from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, SlotLayout, newest, place, refs
from .policy import Averages


class AdaptiveAnchor:
    """The policy that overwrites slot 0 with the new state after every chunk."""

    averages: Averages = "none"

    def state_frames(self, config: StreamConfig) -> int:
        """Count the state frames that are denoised along with the content."""
        return config.state_frames

    def sink_frames(self, config: StreamConfig) -> int:
        """Return 0: slot 0 holds states, not content."""
        return 0

    def kept_frames(self, config: StreamConfig) -> int:
        """Count the state and the window."""
        return config.state_frames + config.window_frames

    def layout(self, config: StreamConfig, cached: CachedFrames) -> SlotLayout:
        """Place the previous state at the front, where the current one is too."""
        size = config.state_frames
        split = config.state_rope == "split01"
        return place(
            reserved=2 * size if split else size,
            anchor=min(len(cached.anchor), size),
            state=tuple(range(size, 2 * size) if split else range(size)),
            window=min(len(cached.window), config.window_frames),
            window_slots=config.window_frames,
            content=config.chunk_frames,
            grow=config.warmup_positions == "grow",
        )

    def commit(self, config: StreamConfig, cached: CachedFrames, *, hold: bool) -> CommitPlan:
        """Put the new state into slot 0 and the new content at the end of the window."""
        keep = hold and cached.anchor
        candidates = refs("window", len(cached.window)) + refs("content", config.chunk_frames)
        return CommitPlan(
            anchor=refs("anchor", len(cached.anchor))
            if keep
            else refs("state", config.state_frames),
            window=newest(candidates, config.window_frames),
        )
