"""Join the parts of a video, decoded by a VAE that keeps nothing between them, by overlap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UnsupportedFamilyError


class OverlapDecoder:
    """A decoder that decodes each part after the end of the earlier ones, and keeps its own images.

    How much the images differ from those of the whole video is measured once, at the first part
    that has twice the overlap before it: it is decoded with all of that, and the newest images
    returned so far are compared with what they are now that their successors are known.

    Args:
        decode: (B, C, T, H, W) to images (B, 1 + (T - 1) * stride, H, W, 3) from 0 to 1.
        stride: Images of every latent frame after the first.
        overlap: Latent frames that are decoded again.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], stride: int, overlap: int = 4) -> None:
        self._decode, self._stride, self.overlap = decode, stride, overlap
        self._before: Tensor | None = None
        self._newest: Tensor | None = None
        self.difference: float | None = None
        """Largest difference of an image's values, 0 to 1; None until it has been measured."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            latents: (B, C, T, H, W).

        Returns:
            (B, frames, H, W, 3): `stride` for a latent frame, but one for the video's first.

        Raises:
            UnsupportedFamilyError: If the decoder gives another number of images.
        """
        before = latents[:, :, :0] if self._before is None else self._before
        images = self._last(before[:, :, -self.overlap :], latents)
        if self.difference is None and before.shape[2] == 2 * self.overlap:
            self.difference = self._measure(before, latents, images)
        self._before = torch.cat((before, latents), dim=2)[:, :, -2 * self.overlap :]
        self._newest = images[:, -self._stride :].clone()
        return images

    def _last(self, before: Tensor, latents: Tensor) -> Tensor:
        images = self._decode(torch.cat((before, latents), dim=2))
        frames = 1 + (before.shape[2] + latents.shape[2] - 1) * self._stride
        if images.shape[1] != frames:
            raise UnsupportedFamilyError(
                "vae",
                problem=f"this VAE makes {images.shape[1]} pictures where {frames} were expected",
                seen=f"{images.shape[1]} images",
                expected=f"{frames}",
                remedy="decode the whole stream with VAE Decode",
            )
        return images[:, -latents.shape[2] * self._stride :] if before.shape[2] else images

    def _measure(self, before: Tensor, latents: Tensor, images: Tensor) -> float:
        newest = self._newest
        assert newest is not None
        wide = self._last(before[:, :, :-1], torch.cat((before[:, :, -1:], latents), dim=2))
        again = torch.cat((newest, images), dim=1)
        return float((wide.float() - again.float()).abs().max())
