"""Describe a stream in plain values: its events, and how its hidden state moves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor

from ..anchors.presets import departure
from .events import (
    ChunkEvent,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    RewindEvent,
)
from .state import StreamState


def describe_stream(state: StreamState) -> dict[str, Any]:
    """Return the events of a stream as JSON values.

    Drift is the distance of the hidden state to the first and to the previous one that is kept, as
    a share of its own norm: 0 means that it does not change.
    """
    states = {e.index: e.state for e in state.chunks if e.state is not None}
    return {
        "next_chunk": state.chunk_index,
        "latent_shape": list(state.latent_shape),
        "model": state.fingerprint.family if state.fingerprint else None,
        "holding": state.hold,
        "chunks_remembered": sum(e.content is not None for e in state.chunks),
        "prompts": _prompts(state.chunks),
        "events": [receipt(event) for event in state.events],
        "hidden_state": _drift(states),
    }


def receipt(event: Event) -> dict[str, Any]:
    """Return what happened in one event as JSON values."""
    if isinstance(event, ChunkEvent):
        method = departure(event.config)
        return {
            "event": "chunk",
            "chunk": event.index,
            "seed": event.seed,
            "prompt": event.positive[:8],
            "anchor": event.config.anchor,
            "preset": method.preset,
            "changed": method.changed,
            "held": event.held,
            "weights": event.weights[:8] or "unpatched",
            "cache_precision": event.config.cache_precision,
            "approximate": event.approximate,
        }
    if isinstance(event, GivenLatentsEvent):
        return {"event": event.reason}
    if isinstance(event, ResetEvent):
        return {"event": "reset", "scope": event.scope}
    if isinstance(event, HoldEvent):
        return {"event": "hold", "chunks": event.chunks}
    if isinstance(event, RewindEvent):
        return {"event": "rewind", "chunk": event.chunk}
    assert isinstance(event, FlushEvent)
    return {"event": "flush", "frames": event.frames}


def _prompts(chunks: tuple[ChunkEvent, ...]) -> list[dict[str, Any]]:
    """List the chunks on which a prompt took effect, and which one."""
    return [
        {"chunk": now.index, "prompt": now.positive[:8]}
        for before, now in pairwise((None, *chunks))
        if now is not None and (before is None or before.positive != now.positive)
    ]


def _drift(states: dict[int, Tensor]) -> list[dict[str, float]]:
    if not states:
        return []
    first = next(iter(states.values()))
    rows = []
    for (_, before), (chunk, now) in pairwise([(-1, first), *states.items()]):
        norm = float(now.float().norm())
        if before.shape != now.shape or first.shape != now.shape or norm == 0.0:
            continue
        rows.append(
            {
                "chunk": chunk,
                "norm": round(norm, 4),
                "from_first": round(float((now - first).float().norm()) / norm, 4),
                "from_previous": round(float((now - before).float().norm()) / norm, 4),
            }
        )
    return rows
