"""Read what a checkpoint file is: training wrappers around the weights, and its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

_GENERATORS = ("generator_ema", "generator")
"""Keys of Self-Forcing style training checkpoints; the averaged weights first."""
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.", "module.")


def is_generator_checkpoint(weights: Mapping[str, Any]) -> bool:
    """Recognise a Self-Forcing style training checkpoint.

    The host unwraps a file whose only entry is the generator; what is left then is the prefix
    of the training code's wrapper around the model.
    """
    named = any(isinstance(weights.get(key), Mapping) for key in _GENERATORS)
    wrapped = any(part in key for key in weights for part in _WRAPPERS)
    return named or wrapped or (bool(weights) and all(key.startswith("model.") for key in weights))


def unwrap_generator(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the plain weights of the generator, averaged ones if there are any."""
    for key in _GENERATORS:
        if isinstance(weights.get(key), Mapping):
            weights = weights[key]
            break
    return {_plain_name(name): tensor for name, tensor in weights.items()}


def declared_shift(path: str) -> float:
    """Return the schedule shift that a file's header declares, or 0."""
    if not path.lower().endswith((".safetensors", ".sft")):
        return 0.0
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
        config = json.loads(header.get("config", "{}"))
        return float(config.get("sampling", {}).get("shift", 0.0))
    except (OSError, SafetensorError, ValueError, AttributeError, TypeError):
        # A header that cannot be read declares nothing; the loader reports a broken file.
        return 0.0


def _plain_name(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix("model.")
