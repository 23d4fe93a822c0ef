"""Describe a stream in plain values: its events, and how its hidden state moves."""

from __future__ import annotations

from collections.abc import Mapping
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

_UNKNOWN = "unknown prompt"


def describe_stream(state: StreamState) -> dict[str, Any]:
    """Return the events of a stream as JSON values.

    Drift is the distance of the hidden state to the first and to the previous one that is kept, as
    a share of its own norm: 0 means that it does not change.
    """
    states = {e.index: e.state for e in state.chunks if e.state is not None}
    unknown = _unknown_prompts(state.chunks)
    return {
        "next_chunk": state.chunk_index,
        "latent_shape": list(state.latent_shape),
        "model": state.fingerprint.family if state.fingerprint else None,
        "holding": state.hold,
        "chunks_remembered": sum(e.content is not None for e in state.chunks),
        "prompts": _prompts(state.chunks, unknown),
        "events": [receipt(event, unknown) for event in state.events],
        "hidden_state": _drift(states),
    }


def receipt(event: Event, unknown: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what happened in one event as JSON values.

    Args:
        event: The event.
        unknown: Names of prompts whose text is not known, by the digest of their conditioning.
    """
    if isinstance(event, ChunkEvent):
        method = departure(event.config)
        return {
            "event": "chunk",
            "chunk": event.index,
            "seed": event.seed,
            "prompt": _prompt(event, unknown or {}),
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


def _prompt(chunk: ChunkEvent, unknown: Mapping[str, str]) -> str:
    return chunk.prompt or unknown.get(chunk.positive, _UNKNOWN)


def _unknown_prompts(chunks: tuple[ChunkEvent, ...]) -> dict[str, str]:
    """Name the prompts whose text is not known, in the order in which they came."""
    digests = dict.fromkeys(chunk.positive for chunk in chunks if not chunk.prompt)
    return {
        digest: _UNKNOWN if number == 1 else f"{_UNKNOWN} {number}"
        for number, digest in enumerate(digests, start=1)
    }


def _prompts(chunks: tuple[ChunkEvent, ...], unknown: Mapping[str, str]) -> list[dict[str, Any]]:
    """List the chunks on which a prompt took effect, and which one."""
    return [
        {"chunk": now.index, "prompt": _prompt(now, unknown)}
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
