"""Averaged anchor: frames that leave the window are blended into slot 0.

The EMA sink of Reward-Forcing: keys and values of the first frames, from then on
sink <- rate x sink + (1 - rate) x evicted, once a chunk, on keys that have no place in time. The
published inference averages in bfloat16, where 0.999 x rounds back to x and most of the decay never
happens; here the average is in float32.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, FrameMix, FrameRef, refs
from .frozen import FrozenAnchor
from .policy import Averages


class EmaAnchor(FrozenAnchor):
    """The policy that blends evicted frames into the first `anchor_frames` content frames."""

    averages: Averages = "frames"

    def commit(self, config: StreamConfig, cached: CachedFrames, *, hold: bool) -> CommitPlan:
        """Fill slot 0 like a frozen anchor; then frame i that leaves goes into slot frame i."""
        plan = super().commit(config, cached, hold=hold)
        if hold or len(plan.anchor) != len(cached.anchor) or not cached.anchor:
            return plan
        candidates = refs("window", len(cached.window)) + refs("content", config.chunk_frames)
        leaving = candidates[: len(candidates) - len(plan.window)]
        anchor = tuple(
            _blended(ref, leaving[i :: len(cached.anchor)], config.ema_rate)
            for i, ref in enumerate(refs("anchor", len(cached.anchor)))
        )
        return replace(plan, anchor=anchor)


def _blended(kept: FrameRef, leaving: tuple[FrameRef, ...], rate: float) -> FrameRef | FrameMix:
    """Average one frame with those that leave, oldest first."""
    if not leaving:
        return kept
    share = [(1.0 - rate) * rate ** (len(leaving) - 1 - j) for j in range(len(leaving))]
    return FrameMix(((kept, rate ** len(leaving)), *zip(leaving, share, strict=True)))
