"""Join the parts of a video that a decoder without memory decodes, by overlap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UnsupportedFamilyError


class OverlapDecoder:
    """Decode each part together with the end of the earlier ones, and keep its own pictures.

    What that leaves to be desired is measured once, at the first part that has twice the overlap
    before it: by decoding it with all of that, and by comparing the newest pictures given so far
    with what they are now that what comes after them is known.

    Args:
        decode: (B, C, T, H, W) to pictures (B, 1 + (T - 1) * stride, H, W, 3) from 0 to 1.
        stride: Pictures of every latent frame after the first.
        overlap: Latent frames that are decoded again.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], stride: int, overlap: int = 4) -> None:
        self._decode, self._stride, self.overlap = decode, stride, overlap
        self._before: Tensor | None = None
        self._newest: Tensor | None = None
        self.difference: float | None = None
        """Largest difference of a picture's values, 0 to 1; None until it has been measured."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            latents: (B, C, T, H, W).

        Returns:
            (B, frames, H, W, 3): `stride` for a latent frame, but one for the video's first.

        Raises:
            UnsupportedFamilyError: If the decoder gives another number of pictures.
        """
        before = latents[:, :, :0] if self._before is None else self._before
        pictures = self._last(before[:, :, -self.overlap :], latents)
        if self.difference is None and before.shape[2] == 2 * self.overlap:
            self.difference = self._measure(before, latents, pictures)
        self._before = torch.cat((before, latents), dim=2)[:, :, -2 * self.overlap :]
        self._newest = pictures[:, -self._stride :].clone()
        return pictures

    def _last(self, before: Tensor, latents: Tensor) -> Tensor:
        pictures = self._decode(torch.cat((before, latents), dim=2))
        frames = 1 + (before.shape[2] + latents.shape[2] - 1) * self._stride
        if pictures.shape[1] != frames:
            raise UnsupportedFamilyError(
                "vae",
                seen=f"{pictures.shape[1]} pictures",
                expected=f"{frames}",
                remedy="decode with VAE Decode, the whole stream at once",
            )
        return pictures[:, -latents.shape[2] * self._stride :] if before.shape[2] else pictures

    def _measure(self, before: Tensor, latents: Tensor, pictures: Tensor) -> float:
        newest = self._newest
        assert newest is not None
        wide = self._last(before[:, :, :-1], torch.cat((before[:, :, -1:], latents), dim=2))
        again = torch.cat((newest, pictures), dim=1)
        return float((wide.float() - again.float()).abs().max())
