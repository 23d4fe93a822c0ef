"""Join the parts of a video or its sound, decoded by a VAE that keeps nothing between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UnsupportedFamilyError


class OverlapDecoder:
    """A decoder that decodes each part with the latents around it, and keeps what is its own.

    How much the result differs from that of the whole is measured once, at the first part that
    has twice the overlap before it: it is decoded with all of that, and the newest latent returned
    so far is compared with what it is now that its successors are known.

    Args:
        decode: (B, C, T, ...) to a tensor with what the latents make along one axis.
        stride: How many pictures or samples a latent makes.
        overlap: Latents before a part that are decoded again.
        ahead: Latents after a part that have to be known before it is decoded.
        first: What the first latent makes, if that is not 1.
        axis: The axis of pictures or samples.
        unit: What a message calls them.
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        stride: int,
        overlap: int = 4,
        ahead: int = 0,
        *,
        first: int = 1,
        axis: int = 1,
        unit: str = "pictures",
    ) -> None:
        self._decode, self._stride, self._first = decode, stride, first
        self.overlap, self.ahead = overlap, ahead
        self._axis, self._unit = axis, unit
        self._known: Tensor | None = None
        self._waiting = 0
        self._newest: Tensor | None = None
        self.difference: float | None = None
        """Largest difference of a value; None until it has been measured."""

    def decode(self, latents: Tensor) -> Tensor | None:
        """Decode the next latents.

        Args:
            latents: (B, C, T, ...).

        Returns:
            What is known of the whole now and was not returned before, or None. The video's first
            latent makes `first` pictures or samples, each other one `stride`.

        Raises:
            UnsupportedFamilyError: If the decoder makes another number of them.
        """
        known = latents if self._known is None else torch.cat((self._known, latents), dim=2)
        self._waiting += latents.shape[2]
        self._known = known
        return self._own(max(0, self._waiting - self.ahead))

    def flush(self) -> Tensor | None:
        """Decode what was held back, or return None; what comes after it begins anew."""
        rest = self._own(self._waiting)
        self._known = self._newest = None
        return rest

    def count_of(self, latents: int) -> int:
        """Return how many pictures or samples the first latents make."""
        return self._first + (latents - 1) * self._stride if latents else 0

    def _own(self, count: int) -> Tensor | None:
        """Decode so many of the latents that wait."""
        known = self._known
        if not count or known is None:
            return None
        before = known.shape[2] - self._waiting
        made = self._last(known, min(before, self.overlap), count)
        if self.difference is None and before == 2 * self.overlap:
            self.difference = self._measure(known, made, count)
        self._waiting -= count
        self._known = known[:, :, -(2 * self.overlap + self._waiting) :].clone()
        size = min(self._stride, made.shape[self._axis])
        self._newest = made.narrow(self._axis, -size, size).clone()
        return made

    def _last(self, known: Tensor, before: int, count: int) -> Tensor:
        """Decode what waits after some of what came before, and keep what the next latents make."""
        window = known[:, :, known.shape[2] - self._waiting - before :].contiguous()
        made = self._decode(window)
        expected = self.count_of(window.shape[2])
        if made.shape[self._axis] != expected:
            raise UnsupportedFamilyError(
                "vae",
                problem=(
                    f"this VAE makes {made.shape[self._axis]} {self._unit} where {expected} were "
                    "expected"
                ),
                seen=f"{made.shape[self._axis]} {self._unit}",
                expected=f"{expected}",
                remedy="decode the whole stream with VAE Decode",
            )
        begin = self.count_of(before)
        return made.narrow(self._axis, begin, self.count_of(before + count) - begin)

    def _measure(self, known: Tensor, made: Tensor, count: int) -> float:
        newest = self._newest
        assert newest is not None
        self._waiting += 1
        wide = self._last(known, 2 * self.overlap - 1, count + 1)
        self._waiting -= 1
        again = torch.cat((newest, made), dim=self._axis)
        return float((wide.float() - again.float()).abs().max())
