"""Owns the latent space that is read: a VAE and the scale of its channels.

Encodes painted pictures and decodes latents in pieces, since a whole stream does not fit memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.anchors.latents import to_video
from training.export import WAN_MEAN, WAN_STD
from training.measure.moments import STRIDE
from training.train_vae import load_vae
from training.vae import ClipVAE

# A piece begins with latent frames that are thrown away: they stand in for the past that it lacks.
# With 4 of them a latent frame differs by less than 1 % of its spread from that of the whole clip.
PIECE, WARM_UP = 24, 4


@dataclass(frozen=True, slots=True)
class Space:
    """A VAE with the mean and scale of its latent channels ``(16,)``; they name the space."""

    vae: ClipVAE
    mean: Tensor
    std: Tensor
    digest: str

    @classmethod
    def open(cls, vae: Path, scale: Path | None) -> Space:
        """Open a VAE in stock names; without a file of scales it speaks Wan's, as shipped."""
        model = load_vae(vae)
        if scale is None:
            mean, std = torch.tensor(WAN_MEAN), torch.tensor(WAN_STD)
        else:
            stored = load_file(scale)
            mean, std = stored["mean"].float(), stored["std"].float()
        told = hashlib.sha256(vae.read_bytes())
        told.update(torch.stack([mean, std]).numpy().tobytes())
        return cls(model, mean, std, told.hexdigest()[:16])

    def normalised(self, latents: Tensor) -> Tensor:
        """Bring latents ``(B, 16, ...)`` of the VAE to the scale that the DiT sees."""
        return (latents - self._wide(self.mean, latents)) / self._wide(self.std, latents)

    def raw(self, latents: Tensor) -> Tensor:
        return latents * self._wide(self.std, latents) + self._wide(self.mean, latents)

    @staticmethod
    def _wide(values: Tensor, like: Tensor) -> Tensor:
        return values.view(1, -1, *(1,) * (like.ndim - 2))

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Encode clips ``(B, 1 + 4 n, 3, H, W)`` of bytes to ``(B, 16, 1 + n, H / 8, W / 8)``."""
        parts = [self.vae.encode(pair)[0] for pair in in_pairs(to_video(pictures))]
        return self.normalised(torch.cat(parts)[: len(pictures)])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode ``(B, 16, 1 + n, h, w)`` to pictures ``(B, 1 + 4 n, 3, H, W)`` in 0 to 1."""
        parts = [self.vae.decode(pair) for pair in in_pairs(self.raw(latents.float()))]
        decoded = torch.cat(parts)[: len(latents)]
        return decoded.transpose(1, 2).mul(0.5).add(0.5).clamp(0.0, 1.0)


def in_pairs(clips: Tensor) -> Iterator[Tensor]:
    """Give clips ``(B, C, T, H, W)`` two by two, the last one twice where their number is odd.

    A CPU has no fast convolution in three dimensions for a batch of one: decoding takes seven
    times as long.
    """
    for pair in clips.split(2):
        two = pair if len(pair) == 2 else pair.expand(2, -1, -1, -1, -1)
        yield two.contiguous(memory_format=torch.channels_last_3d)


def pieces(frames: int, piece: int = PIECE, warm_up: int = WARM_UP) -> Iterator[tuple[int, slice]]:
    """Cut a clip of latent frames: how many of a piece are kept, and its pictures in the clip."""
    for start in range(0, frames, piece):
        end = min(start + piece, frames)
        first = max(0, start - warm_up)
        yield end - start, slice(STRIDE * first, STRIDE * (end - 1) + 1)
