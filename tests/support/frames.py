"""A stream of frames that are nothing but their numbers, run through an anchor policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adastate_core.anchors import policy_for
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames, FrameMix, FrameRef, SlotLayout

Shares = dict[str, float]
"""What a cached frame consists of: c7 is content frame 7, s2 the state of chunk 2."""


@dataclass(frozen=True)
class Seen:
    """What one chunk was laid out as.

    Args:
        layout: The indices of its frames.
        anchor: Frames of slot 0 that it read.
        window: Frames of the window that it read.
    """

    layout: SlotLayout
    anchor: list[str | Shares]
    window: list[str | Shares]


def chunks(config: StreamConfig, count: int, *, held: tuple[int, ...] = ()) -> list[Seen]:
    """Lay out and commit chunk after chunk; those of `held` leave slot 0 alone."""
    policy, seen = policy_for(config), []
    kept: dict[str, list[Shares]] = {"anchor": [], "window": []}
    for chunk in range(count):
        first = chunk * config.chunk_frames
        zeros = ((0.0,) * len(kept[part]) for part in ("anchor", "window"))
        cached = CachedFrames(*zeros, committed=first)
        layout = policy.layout(config, cached)
        read = kept["window"][len(kept["window"]) - len(layout.window) :]
        anchor = [kept["anchor"][i] for i in layout.picked]
        seen.append(Seen(layout, [*map(_named, anchor)], [*map(_named, read)]))
        rows = {
            **kept,
            "state": [{f"s{chunk}": 1.0}] * policy.state_frames(config),
            "content": [{f"c{first + i}": 1.0} for i in range(config.chunk_frames)],
        }
        plan = policy.commit(config, replace(cached), hold=chunk in held)
        kept = {
            "anchor": [_made(ref, rows) for ref in plan.anchor],
            "window": [_made(ref, rows) for ref in plan.window],
        }
        assert sum(map(len, kept.values())) <= policy.kept_frames(config)
    return seen


def _made(kept: FrameRef | FrameMix, rows: dict[str, list[Shares]]) -> Shares:
    if isinstance(kept, FrameRef):
        return rows[kept.source][kept.position]
    shares: Shares = {}
    for ref, weight in kept.terms:
        for name, share in rows[ref.source][ref.position].items():
            shares[name] = shares.get(name, 0.0) + weight * share
    return shares


def _named(shares: Shares) -> str | Shares:
    return next(iter(shares)) if list(shares.values()) == [1.0] else shares
