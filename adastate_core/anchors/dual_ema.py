"""Two averages beside the first frames: a slow and a quick memory of what has left the window.

MemRoPE: slot 0 is the first frames, then one frame each for the two averages. An average is over
every token that leaves, without its place in time or in the picture, and stands in every place:
memory <- rate x memory + (1 - rate) x mean, once a chunk. Until something has to leave, all of the
past is kept as it is, in the places that the averages take later. They begin with the newest
frames of the first that leave, one chunk of them, as in the published code; those before are lost.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import StreamConfig
from ..layout import CommitPlan, FrameMix, FrameRef, Occupancy, SlotLayout, newest, place, refs
from .frozen import FrozenAnchor
from .policy import Averages

_AVERAGES = 2


class DualEmaAnchor(FrozenAnchor):
    """Keep the first `anchor_frames` content frames and two averages of what left the window."""

    averages: Averages = "picture"

    def kept_frames(self, config: StreamConfig) -> int:
        """Count the first frames, the averages and the window."""
        return config.anchor_frames + _AVERAGES + config.window_frames

    def layout(self, config: StreamConfig, held: Occupancy) -> SlotLayout:
        """Place first frames, averages and window from the front."""
        slots = _window_slots(config, held)
        anchor = min(len(held.anchor), self.kept_frames(config) - slots)
        grow = config.warmup_positions == "grow"
        return place(
            reserved=anchor if grow else self.kept_frames(config) - slots,
            anchor=anchor,
            state=(),
            window=min(len(held.window), slots),
            window_slots=slots,
            content=config.chunk_frames,
            grow=grow,
            seen=held.seen if config.positions == "absolute" else None,
        )

    def commit(self, config: StreamConfig, held: Occupancy, *, hold: bool) -> CommitPlan:
        """Fill slot 0 and the window; then average what leaves."""
        sink, averaged = config.anchor_frames, _is_averaged(config, held)
        wide = replace(config, window_frames=_window_slots(config, held))
        plan = super().commit(wide, held, hold=hold)
        seen = refs("window", len(held.window)) + refs("content", config.chunk_frames)
        full = len(seen) > wide.window_frames and len(held.anchor) >= sink
        if hold or not full:
            return plan
        window = newest(seen, config.window_frames)
        leaving = seen[: len(seen) - len(window)]
        if averaged:
            rates = (config.ema_rate, config.ema_fast_rate)
            memories = refs("anchor", len(held.anchor))[sink:]
            averages = tuple(
                _mean(((memory, rate), *_shares(leaving, 1.0 - rate)))
                for memory, rate in zip(memories, rates, strict=True)
            )
        else:
            averages = (_mean(_shares(newest(leaving, config.chunk_frames), 1.0)),) * _AVERAGES
        return CommitPlan(anchor=(*refs("anchor", sink), *averages), window=window)


def _is_averaged(config: StreamConfig, held: Occupancy) -> bool:
    return len(held.anchor) == config.anchor_frames + _AVERAGES


def _window_slots(config: StreamConfig, held: Occupancy) -> int:
    return config.window_frames + (0 if _is_averaged(config, held) else _AVERAGES)


def _mean(terms: tuple[tuple[FrameRef, float], ...]) -> FrameMix:
    return FrameMix(terms, pooled=True)


def _shares(frames: tuple[FrameRef, ...], total: float) -> tuple[tuple[FrameRef, float], ...]:
    return tuple((frame, total / len(frames)) for frame in frames)
