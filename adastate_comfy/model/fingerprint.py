"""Identify what a MODEL computes with: its base weights and the patches on them."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.digest import tensor_digest
from ...adastate_core.fingerprint import (
    ModelFingerprint,
    fingerprint_model,
    legacy_digest,
    weight_digest,
)
from .binding import BoundModel

_PREFIX = "diffusion_model."
_SAMPLED = ("norm", "modulation")
"""Names of what version 0.1.0 read of a model."""
_CHEAP = 2**25
"""Numbers that are read for such a digest before any stream needs it; some families have more."""


def fingerprint_of(bound: BoundModel, like: ModelFingerprint | None = None) -> ModelFingerprint:
    """Fingerprint the base weights of a MODEL, read unpatched, once for each binding of it.

    Args:
        bound: The MODEL.
        like: A fingerprint that it will be compared with.
    """
    known = bound.binding.fingerprint
    by_legacy = like is not None and not like.sampled
    if known is None or (by_legacy and not known.legacy):
        known = bound.binding.fingerprint = _fingerprint(bound, by_legacy)
    return known


def _fingerprint(bound: BoundModel, by_legacy: bool) -> ModelFingerprint:
    model, traits = bound.model, bound.traits
    class_name = type(model.get_model_object("diffusion_model")).__name__
    weights = base_weights(model)
    sampled = (weight for name, weight in weights.items() if any(part in name for part in _SAMPLED))
    legacy = ""
    if by_legacy or sum(weight.numel() for weight in sampled) <= _CHEAP:
        legacy = _legacy_digest(model, traits.family, class_name, weights)
    return fingerprint_model(traits.family, traits.latent_channels, class_name, weights, legacy)


def base_weights(model: ModelPatcher) -> dict[str, Tensor]:
    """Return the weights of a MODEL's DiT by name, as they are without any patch.

    A state dict may name what its modules do not have: packed data under other names, or room that
    a loader counts. What is no attribute of a module is left out, unless the module has nothing
    else to show.
    """
    entries = model.model_state_dict(_PREFIX)
    named = model.model.diffusion_model.named_parameters()
    names = {**dict.fromkeys(entries), **{f"{_PREFIX}{name}": None for name, _ in named}}
    for place, original in _replaced(model):
        names = {name: None for name in names if not name.startswith(f"{place}.")}
        names |= {f"{place}.{name}": None for name, _ in original.named_parameters()}
    weights: dict[str, Tensor] = {}
    for name in names:
        weight = _base_weight(model, name, entries.get(name))
        if isinstance(weight, Tensor):
            weights[name] = weight
    return weights


def _base_weight(model: ModelPatcher, name: str, entry: object) -> object:
    if name in model.backup:
        return model.backup[name].weight
    if name in model.backup_buffers:
        return model.backup_buffers[name]
    if name in model.hook_backup:
        return model.hook_backup[name][0]
    path, _, last = name.rpartition(".")
    module = _module_at(model, path)
    weight = getattr(module, last, None)
    if weight is not None:
        return weight
    stored = isinstance(module, torch.nn.Module) and (module._parameters or module._buffers)
    return None if stored else entry


def _replaced(model: ModelPatcher) -> list[tuple[str, torch.nn.Module]]:
    """List the modules that stood where a patch of this MODEL, or of a clone, has put another."""
    backup = model.object_patches_backup.items()
    own = ((place, old) for place, old in backup if place.startswith(_PREFIX))
    return [(place, old) for place, old in own if isinstance(old, torch.nn.Module)]


def _module_at(model: ModelPatcher, path: str) -> Any:
    """Return the module at a path, the original one where it is replaced now."""
    for place, original in _replaced(model):
        if f"{path}.".startswith(f"{place}."):
            rest = path[len(place) + 1 :]
            return original.get_submodule(rest) if rest else original
    module: Any = model.model
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


def _legacy_digest(
    model: ModelPatcher, family: str, class_name: str, weights: dict[str, Tensor]
) -> str:
    """Digest a model as version 0.1.0 did; empty for a model that it could not read."""
    names = model.model_state_dict(_PREFIX)
    try:
        return legacy_digest(
            family,
            class_name,
            {name: tuple(weights[name].shape) for name in names},
            # bfloat16: the same file loaded in another precision must stay the same model.
            {
                name: weights[name].to(torch.bfloat16)
                for name in names
                if any(part in name for part in _SAMPLED)
            },
        )
    except (KeyError, TypeError, RuntimeError):
        return ""


def joint_fingerprint(fingerprints: list[ModelFingerprint]) -> ModelFingerprint:
    """Fingerprint the models that make one stream together."""
    first, legacy = fingerprints[0], [each.legacy for each in fingerprints]
    return ModelFingerprint.joined(
        first.family,
        first.latent_channels,
        joint_digest([each.sampled for each in fingerprints]),
        joint_digest(legacy) if all(legacy) else "",
    )


def joint_digest(digests: list[str]) -> str:
    """Join the digests of several models; one stays as it is, and empty ones stay empty."""
    if len(digests) == 1 or not any(digests):
        return digests[0]
    return hashlib.sha256("+".join(digests).encode()).hexdigest()[:32]


def weights_digest(bound: BoundModel) -> str:
    """Digest the weight patches (LoRA) on a MODEL; empty without any."""
    model, known = bound.model, bound.binding.weights
    if not model.patches:
        return ""
    if model.patches_uuid not in known:
        if len(known) >= 16:
            known.clear()
        digest = hashlib.sha256()
        for name in sorted(model.patches):
            digest.update(name.encode())
            for patch in model.patches[name]:
                _feed(digest, patch)
        known[model.patches_uuid] = digest.hexdigest()[:32]
    return known[model.patches_uuid]


def _feed(digest: Any, value: object) -> None:
    """Add a nested patch value: strengths, names and tensors."""
    if isinstance(value, Tensor):
        plain = type(value) in (Tensor, torch.nn.Parameter)
        found = tensor_digest(value) if plain else weight_digest(value)
        digest.update(found.encode())
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "weights"):  # a weight adapter of the host, such as a LoRA
        digest.update(type(value).__name__.encode())
        _feed(digest, value.weights)
    elif callable(value):
        digest.update(getattr(value, "__qualname__", type(value).__name__).encode())
    else:
        digest.update(repr(value).encode())
