"""Identify base weights without reading all of them.

Small tensors are read whole, large ones in a few runs of neighbouring elements: about 25 MB of a
file of 28 GB, in so few places that a slow disk reads them quickly. A weight is read as it is
stored: of a quantised one that is its packed data and its scales, never the values they stand for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .digest import tensor_digest

_SAMPLED = "v2-"

_RUNS, _RUN = 8, 2048
"""Runs of a large tensor, and elements of each."""
_RAW_FLOATS = ("float8_e8m0fnu", "float4_e2m1fn_x2")
"""Float dtypes of packed data, which not every torch converts."""


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """What base weights are recognised by: family, latent channels, and a digest of the weights.

    >>> ours = ModelFingerprint.joined("wan2.1", 16, sampled="2f", legacy="c4")
    >>> ours.matches(ModelFingerprint("wan2.1", 16, digest="c4"))
    True

    Version 0.1.0 wrote a digest of norms and modulation as 32 hex digits. The digest of a sample of
    every weight has `v2-` before its digits, and that older one after them where it is known: by
    it a stream that began with the older one is still recognised.
    """

    family: str
    latent_channels: int
    digest: str

    @classmethod
    def joined(
        cls, family: str, latent_channels: int, sampled: str, legacy: str = ""
    ) -> ModelFingerprint:
        """Make a fingerprint of the digest of sampled weights, and the older one if known."""
        return cls(family, latent_channels, f"{_SAMPLED}{sampled}" + (legacy and f"-{legacy}"))

    @property
    def sampled(self) -> str:
        """Return the digest of the sampled weights, or an empty text."""
        newer = self.digest.startswith(_SAMPLED)
        return self.digest.removeprefix(_SAMPLED).partition("-")[0] if newer else ""

    @property
    def legacy(self) -> str:
        """Return the digest of version 0.1.0, or an empty text where it is not known."""
        newer = self.digest.startswith(_SAMPLED)
        return self.digest.removeprefix(_SAMPLED).partition("-")[2] if newer else self.digest

    def matches(self, other: ModelFingerprint) -> bool:
        """Say whether both are of one model, by the newest digest that both have."""
        if (self.family, self.latent_channels) != (other.family, other.latent_channels):
            return False
        if self.sampled and other.sampled:
            return self.sampled == other.sampled
        return self.legacy != "" and self.legacy == other.legacy

    def __str__(self) -> str:
        return f"{self.family} {(self.sampled or self.legacy)[:8]}"


def fingerprint_model(
    family: str,
    latent_channels: int,
    class_name: str,
    weights: Mapping[str, Tensor],
    legacy: str = "",
) -> ModelFingerprint:
    """Fingerprint a model by its class and a sample of every unpatched weight.

    Args:
        family: Name of the family.
        latent_channels: Channels of its latents.
        class_name: Class of the module.
        weights: The weights by name.
        legacy: What `legacy_digest` says of the model, if that is known.
    """
    digest = hashlib.sha256(f"{family}:{class_name}".encode())
    for name in sorted(weights):
        digest.update(f"{name}{weight_digest(weights[name])}".encode())
    return ModelFingerprint.joined(family, latent_channels, digest.hexdigest()[:32], legacy)


def legacy_digest(
    family: str,
    class_name: str,
    shapes: Mapping[str, tuple[int, ...]],
    sample: Mapping[str, Tensor],
) -> str:
    """Digest a model as version 0.1.0 did, which read norms and modulation only.

    Args:
        family: Name of the family.
        class_name: Class of the module.
        shapes: Shape of every tensor of its state dict by name.
        sample: The unpatched modulation and norm tensors, in bfloat16.
    """
    digest = hashlib.sha256(f"{family}:{class_name}".encode())
    for name in sorted(shapes):
        digest.update(f"{name}{tuple(shapes[name])}".encode())
    for name in sorted(sample):
        digest.update(f"{name}{tensor_digest(sample[name])}".encode())
    return digest.hexdigest()[:32]


def weight_digest(weight: Tensor) -> str:
    """Return the sha256 of a sample of one weight, in whatever form it is kept."""
    digest = hashlib.sha256()
    for name, part in _stored(weight):
        seen = tuple(part.shape) if isinstance(part, Tensor) else part
        digest.update(f"{name}{seen}".encode())
        if isinstance(part, Tensor) and part.device.type != "meta":
            digest.update(_sample(part))
    return digest.hexdigest()


def _stored(weight: Tensor, name: str = "") -> Iterator[tuple[str, object]]:
    """Take a tensor apart into the plain tensors and values that it keeps."""
    if hasattr(weight, "__tensor_flatten__"):  # torch's protocol of tensors made of tensors
        names, rest = weight.__tensor_flatten__()
        for inner in names:
            yield from _stored(getattr(weight, inner), f"{name}.{inner}")
        yield name, tuple(_plain(rest))
        return
    with torch._C.DisableTorchFunctionSubclass():
        yield name, weight.detach().as_subclass(Tensor)


def _plain(value: object) -> Iterator[object]:
    """List names and numbers of a nested value; the dtype that is computed in is none of them."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _plain((key, value[key]))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _plain(item)
    elif value is None or isinstance(value, bool | int | float | str):
        yield value


def _sample(tensor: Tensor) -> memoryview:
    """Return bytes of a tensor; equal for every dtype that holds its values exactly.

    Only what is chosen leaves the device.
    """
    chosen = _chosen(tensor).cpu()
    raw = str(chosen.dtype).removeprefix("torch.") in _RAW_FLOATS
    if chosen.dtype.is_floating_point and not raw:
        chosen = chosen.to(torch.bfloat16)
    data: memoryview = chosen.contiguous().view(torch.uint8).numpy().data
    return data


def _chosen(tensor: Tensor) -> Tensor:
    count = tensor.numel()
    if count <= _RUNS * _RUN:
        return tensor.reshape(-1)
    step = (count - _RUN) // (_RUNS - 1)
    if tensor.is_contiguous():
        runs = tensor.as_strided((_RUNS, _RUN), (step, 1), tensor.storage_offset())
        return runs.reshape(-1)
    starts = torch.arange(_RUNS, device=tensor.device)[:, None] * step
    places = (starts + torch.arange(_RUN, device=tensor.device)).reshape(-1)
    # Small floats cannot be indexed everywhere.
    indexed = tensor.view(torch.uint8) if tensor.dtype.itemsize == 1 else tensor
    return indexed[torch.unravel_index(places, tensor.shape)].view(tensor.dtype)
