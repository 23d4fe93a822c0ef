"""What a decoder and an encoder of a growing video offer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import LayoutError

CAUSAL_LOOK_BACK = 39
"""Latent frames after which a causal decoder gives the same as if it had seen all of a video.

Those of Wan need most: 38 frames, by their layers and as measured with random weights.
"""


class StreamDecoder:
    """The decoder of one video, part after part, and in the end what it held back."""

    look_back = CAUSAL_LOOK_BACK
    """Latent frames after which it gives the same as if it had seen all of the video."""

    held_back = 0
    """Latent frames whose pictures `decode` may leave for later, at most."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            latents: (B, C, T, H, W), in the VAE's dtype and on its device.

        Returns:
            (B, 3, frames, height, width): what is known of the video now and was not returned
            before, which may be nothing.
        """
        raise NotImplementedError

    def flush(self) -> Tensor | None:
        """Return the pictures that were held back, or None.

        The video ends there: no part may follow.
        """
        return None

    def frames_of(self, latents: int) -> int:
        """Return how many pictures the first latent frames of a video make, if it goes on."""
        raise NotImplementedError

    def may_begin(self, at: int, first: int) -> bool:
        """Say whether pictures from a latent frame on are the same if decoding begins elsewhere.

        Args:
            at: The latent frame at which it would begin.
            first: The latent frame from which on pictures are wanted.
        """
        return at == 0


class StreamEncoder:
    """The encoder of one clip, whose frames come in parts.

    Args:
        first: Frames that are encoded first.
        stride: Frames of every latent frame after the first, which are encoded together.
    """

    def __init__(self, first: int, stride: int) -> None:
        self.stride = stride
        self._next = first
        self._waiting: Tensor | None = None

    def add(self, frames: Tensor) -> None:
        """Take the next frames.

        Args:
            frames: (B, C, T, H, W), any number, in the VAE's dtype and on its device.
        """
        waiting = frames if self._waiting is None else torch.cat((self._waiting, frames), dim=2)
        # The newest group waits: the last one of a clip is encoded in another way.
        while waiting.shape[2] > self._next:
            group, waiting = waiting[:, :, : self._next], waiting[:, :, self._next :]
            self._encode(group, last=False)
            self._next = self.stride
        self._waiting = waiting

    def finish(self) -> Tensor:
        """Return the latents of all frames, (B, C, T, H, W).

        Raises:
            LayoutError: If there is no frame, or the last latent frame is not full.
        """
        seen = 0 if self._waiting is None else self._waiting.shape[2]
        if self._waiting is None or not self._fills(seen):
            raise LayoutError(
                "clip",
                problem=(
                    f"the clip ends in the middle of a group of {self.stride} frames ({seen} "
                    "frames are left over)"
                ),
                seen=f"{seen} frames at its end",
                expected=f"1 frame and then whole groups of {self.stride}",
                remedy=(
                    f"remove frames at its beginning: 1 and then whole groups of {self.stride} are "
                    "encoded"
                ),
            )
        self._encode(self._waiting, last=True)
        return self._latents()

    def _fills(self, frames: int) -> bool:
        return frames == self._next

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        raise NotImplementedError

    def _latents(self) -> Tensor:
        raise NotImplementedError
