"""Two averages after the first frames: a slow and a fast one of what has left the window.

MemRoPE: slot 0 is the first frames, then one frame each for the two averages. It is taken
over every token that leaves, without its place in time or in the image, and is in every place:
average <- rate x average + (1 - rate) x mean, once a chunk. Until something has to leave, all of
the past is kept as it is, in the places that the averages take later. They begin with the newest
frames of the first that leave, one chunk of them, as in the published code; those before are lost.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, FrameMix, FrameRef, SlotLayout, newest, place, refs
from .frozen import FrozenAnchor
from .policy import Averages

_AVERAGES = 2


class DualEmaAnchor(FrozenAnchor):
    """The policy that keeps the first frames and two averages of what has left the window."""

    averages: Averages = "picture"

    def kept_frames(self, config: StreamConfig) -> int:
        """Count the first frames, the averages and the window."""
        return config.anchor_frames + _AVERAGES + config.window_frames

    def layout(self, config: StreamConfig, cached: CachedFrames) -> SlotLayout:
        """Place first frames, averages and window from the front."""
        slots = _window_slots(config, cached)
        anchor = min(len(cached.anchor), self.kept_frames(config) - slots)
        grow = config.warmup_positions == "grow"
        return place(
            reserved=anchor if grow else self.kept_frames(config) - slots,
            anchor=anchor,
            state=(),
            window=min(len(cached.window), slots),
            window_slots=slots,
            content=config.chunk_frames,
            grow=grow,
            committed=cached.committed if config.positions == "absolute" else None,
        )

    def commit(self, config: StreamConfig, cached: CachedFrames, *, hold: bool) -> CommitPlan:
        """Fill slot 0 and the window; then average what leaves."""
        sink, averaged = config.anchor_frames, _is_averaged(config, cached)
        wide = replace(config, window_frames=_window_slots(config, cached))
        plan = super().commit(wide, cached, hold=hold)
        candidates = refs("window", len(cached.window)) + refs("content", config.chunk_frames)
        full = len(candidates) > wide.window_frames and len(cached.anchor) >= sink
        if hold or not full:
            return plan
        window = newest(candidates, config.window_frames)
        leaving = candidates[: len(candidates) - len(window)]
        if averaged:
            rates = (config.ema_rate, config.ema_fast_rate)
            old = refs("anchor", len(cached.anchor))[sink:]
            averages = tuple(
                _mean(((average, rate), *_shares(leaving, 1.0 - rate)))
                for average, rate in zip(old, rates, strict=True)
            )
        else:
            averages = (_mean(_shares(newest(leaving, config.chunk_frames), 1.0)),) * _AVERAGES
        return CommitPlan(anchor=(*refs("anchor", sink), *averages), window=window)


def _is_averaged(config: StreamConfig, cached: CachedFrames) -> bool:
    return len(cached.anchor) == config.anchor_frames + _AVERAGES


def _window_slots(config: StreamConfig, cached: CachedFrames) -> int:
    return config.window_frames + (0 if _is_averaged(config, cached) else _AVERAGES)


def _mean(terms: tuple[tuple[FrameRef, float], ...]) -> FrameMix:
    return FrameMix(terms, pooled=True)


def _shares(frames: tuple[FrameRef, ...], total: float) -> tuple[tuple[FrameRef, float], ...]:
    return tuple((frame, total / len(frames)) for frame in frames)
