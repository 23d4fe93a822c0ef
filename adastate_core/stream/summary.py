"""Describe a stream in plain values: receipts of what happened, and how its state moves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor

from ..anchors.presets import departure
from .events import ChunkEntry, Entry, FlushEntry, HoldEntry, ResetEntry, RewindEntry, RootEntry
from .state import StreamState


def describe_stream(state: StreamState) -> dict[str, Any]:
    """Return the record of a stream as JSON values.

    Drift is the distance of the hidden state to the first and to the previous recorded one, as
    a share of its own norm: 0 means that it stands still.
    """
    states = {e.index: e.state for e in state.chunks if e.state is not None}
    return {
        "next_chunk": state.chunk_index,
        "latent_shape": list(state.latent_shape),
        "model": state.fingerprint.family if state.fingerprint else None,
        "holding": state.hold,
        "chunks_remembered": sum(e.content is not None for e in state.chunks),
        "prompts": _prompts(state.chunks),
        "events": [receipt(entry) for entry in state.entries],
        "hidden_state": _drift(states),
    }


def receipt(entry: Entry) -> dict[str, Any]:
    """Return what happened in one entry as JSON values."""
    if isinstance(entry, ChunkEntry):
        method = departure(entry.config)
        return {
            "event": "chunk",
            "chunk": entry.index,
            "seed": entry.seed,
            "prompt": entry.positive[:8],
            "anchor": entry.config.anchor,
            "preset": method.preset,
            "changed": method.changed,
            "held": entry.held,
            "weights": entry.weights[:8] or "unpatched",
            "cache_precision": entry.config.cache_precision,
            "approximate": entry.approximate,
        }
    if isinstance(entry, RootEntry):
        return {"event": entry.reason}
    if isinstance(entry, ResetEntry):
        return {"event": "reset", "scope": entry.scope}
    if isinstance(entry, HoldEntry):
        return {"event": "hold", "chunks": entry.chunks}
    if isinstance(entry, RewindEntry):
        return {"event": "rewind", "chunk": entry.chunk}
    assert isinstance(entry, FlushEntry)
    return {"event": "flush", "frames": entry.frames}


def _prompts(chunks: tuple[ChunkEntry, ...]) -> list[dict[str, Any]]:
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
