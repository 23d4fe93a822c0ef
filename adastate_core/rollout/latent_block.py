"""The latents of one block: what a host samples, and what it forwards clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, repr=False)
class LatentBlock:
    """The latents of a block, track by track.

    Args:
        video: State and content, (B, C, F_s + F, H, W), in model space.
        sound: The sound of the content, (B, C, T, R), time on the third axis; None if there is
            none.
    """

    video: Tensor
    sound: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> LatentBlock:
        """Return the block with every track changed."""
        return LatentBlock(change(self.video), None if self.sound is None else change(self.sound))

    @property
    def tracks(self) -> tuple[Tensor, ...]:
        """Return the latents of the tracks that it has, the video first."""
        return (self.video,) if self.sound is None else (self.video, self.sound)

    @classmethod
    def joined(
        cls, state: Tensor | None, content: Tensor, sound: Tensor | None = None
    ) -> LatentBlock:
        """Join state and content in one memory layout, whatever they were cut from.

        The last bits of what is computed depend on the layout.
        """
        parts = [content] if state is None else [state, content]
        batch, channels, _, height, width = content.shape
        frames = sum(part.shape[2] for part in parts)
        block = content.new_empty((batch, channels, frames, height, width))
        return cls(torch.cat(parts, dim=2, out=block), sound)
