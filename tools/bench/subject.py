"""What is measured: how to make a random model, and what its forward takes besides the video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@dataclass(frozen=True)
class Subject:
    """Describe a random model of one family.

    Args:
        build: Makes the MODEL; leaves the global random state alone.
        text_width: Channels of its text embedding.
        channels: Channels of its latents.
        size: Rows and columns of its latents.
        patch: Rows and columns that a token covers.
        text_tokens: Tokens of the text; 84 beside four of these frames are as much as Wan's 512
            beside four frames of 480p.
        pooled: Channels of its pooled text embedding, 0 if it takes none.
        attention_mask: Whether the text comes with a mask.
    """

    build: Callable[[], ModelPatcher]
    text_width: int
    channels: int = 16
    size: tuple[int, int] = (28, 28)
    patch: int = 2
    text_tokens: int = 84
    pooled: int = 0
    attention_mask: bool = False

    @property
    def tokens_per_frame(self) -> int:
        """Count the tokens of one latent frame."""
        rows, columns = self.size
        return (rows // self.patch) * (columns // self.patch)

    def latent_shape(self, frames: int) -> tuple[int, int, int, int, int]:
        """Return the shape of some latent frames."""
        return 1, self.channels, frames, *self.size

    def conditioning(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Make a random text embedding and what comes with it."""
        source = torch.Generator().manual_seed(1)
        text = torch.randn((1, self.text_tokens, self.text_width), generator=source)
        extras = {}
        if self.pooled:
            extras["pooled_output"] = torch.randn((1, self.pooled), generator=source)
        if self.attention_mask:
            extras["attention_mask"] = torch.ones((1, self.text_tokens), dtype=torch.long)
        return text, extras
