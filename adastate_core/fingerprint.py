"""Identify base weights without reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from .conditioning import tensor_digest
from .record import ModelFingerprint


def fingerprint_model(
    family: str,
    latent_channels: int,
    class_name: str,
    shapes: Mapping[str, tuple[int, ...]],
    sample: Mapping[str, Tensor],
) -> ModelFingerprint:
    """Fingerprint a model by its class, its parameter shapes and a sample of its weights.

    Args:
        family: Name of the family.
        latent_channels: Channels of its latents.
        class_name: Class of the module.
        shapes: Shape of every parameter by name.
        sample: The unpatched modulation and norm tensors: small, and different in every
            training run.
    """
    digest = hashlib.sha256(f"{family}:{class_name}".encode())
    for name in sorted(shapes):
        digest.update(f"{name}{tuple(shapes[name])}".encode())
    for name in sorted(sample):
        digest.update(f"{name}{tensor_digest(sample[name])}".encode())
    return ModelFingerprint(family, latent_channels, digest.hexdigest()[:32])
