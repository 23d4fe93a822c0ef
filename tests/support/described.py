"""A state in plain values, digests in place of tensors: what a file of it has to give back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.digest import tensor_digest
from adastate_core.files.schema import KIND_OF
from adastate_core.stream.state import StreamState


def described(state: StreamState) -> dict[str, Any]:
    """Return everything but the origin."""
    sound = {"sound_shape": state.sound_shape, "clock": state.clock and str(state.clock)}
    return {
        **{name: value for name, value in sound.items() if value is not None},
        "latent_shape": list(state.latent_shape),
        "fingerprint": asdict(state.fingerprint) if state.fingerprint else None,
        "latent_format": state.latent_format,
        "chunk_index": state.chunk_index,
        "hold": state.hold,
        "history_chunks": state.history_chunks,
        "entries": [_event(event) for event in state.events],
        "conditionings": {
            digest: {
                "structure": conditioning.structure,
                "tensors": {k: tensor_digest(v) for k, v in conditioning.tensors.items()},
            }
            for digest, conditioning in state.conditionings.items()
        },
    }


def _event(event: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": KIND_OF[type(event)]}
    for name in event.__dataclass_fields__:
        value = getattr(event, name)
        if (name == "prompt" and not value) or (name == "sound" and value is None):
            continue  # what older files do not have
        if isinstance(value, Tensor):
            value = f"{value.dtype} {tuple(value.shape)} {tensor_digest(value)}"
        values[name] = value.to_json() if isinstance(value, StreamConfig) else value
    return values
