"""Identify what a MODEL computes with: its base weights and the patches on them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..adastate_core.conditioning import tensor_digest
from ..adastate_core.fingerprint import fingerprint_model
from ..adastate_core.record import ModelFingerprint
from .bridge import Binding

_PREFIX = "diffusion_model."
_SAMPLED = ("norm", "modulation")


def fingerprint_of(model: ModelPatcher, binding: Binding) -> ModelFingerprint:
    """Fingerprint the base weights of a MODEL, read unpatched, once for each binding of it."""
    if not binding.fingerprints:
        # Once, since some families have gigabytes of modulation weights to hash.
        binding.fingerprints.append(_fingerprint(model, binding))
    return binding.fingerprints[0]


def _fingerprint(model: ModelPatcher, binding: Binding) -> ModelFingerprint:
    weights = model.get_key_patches(_PREFIX)
    # bfloat16: the same file loaded in another precision must stay the same model.
    sample = {
        name: entry[0][0].to(torch.bfloat16)
        for name, entry in weights.items()
        if any(part in name for part in _SAMPLED)
    }
    return fingerprint_model(
        binding.traits.family,
        binding.traits.latent_channels,
        type(model.get_model_object("diffusion_model")).__name__,
        {name: tuple(entry[0][0].shape) for name, entry in weights.items()},
        sample,
    )


def joint_fingerprint(fingerprints: list[ModelFingerprint]) -> ModelFingerprint:
    """Fingerprint the models that make one stream together."""
    return replace(fingerprints[0], digest=joint_digest([each.digest for each in fingerprints]))


def joint_digest(digests: list[str]) -> str:
    """Join the digests of several models; one stays as it is, and empty ones stay empty."""
    if len(digests) == 1 or not any(digests):
        return digests[0]
    return hashlib.sha256("+".join(digests).encode()).hexdigest()[:32]


def weights_digest(model: ModelPatcher, binding: Binding) -> str:
    """Digest the weight patches (LoRA) on a MODEL; empty without any."""
    if not model.patches:
        return ""
    known = binding.weights
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
        digest.update(tensor_digest(value).encode())
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
