"""Decoders of Wan: the host's modules, in a loop that keeps what every convolution has seen."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from ..vae_kinds import takes

Memory = list[Tensor | str | None]
"""What each convolution has seen: frames, a mark, or nothing yet."""


class _CausalDecoder:
    """Keep what the convolutions of one video have seen.

    Args:
        vae: The host's VAE module.
    """

    def __init__(self, vae: nn.Module) -> None:
        self._vae = cast(Any, vae)
        convolutions = sum(type(m).__name__ == "CausalConv3d" for m in self._vae.decoder.modules())
        self._memory: Memory = [None] * convolutions
        self._begun = False

    @staticmethod
    def fits(vae: nn.Module) -> bool:
        """Say whether the decoder still takes what its convolutions remember."""
        decoder = getattr(vae, "decoder", None)
        return hasattr(vae, "conv2") and takes(decoder, "feat_cache", "feat_idx")


class WanDecoder(_CausalDecoder):
    """Decode latents of the Wan 2.1 VAE.

    The host's modules forget a frame when they are given a single one after the first, which
    its own loop does at the end only. Then what they remember is put together again.
    """

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames: the first one alone, then two at a time."""
        x = self._vae.conv2(latents)
        sizes = [] if self._begun else [1]
        rest = x.shape[2] - sum(sizes)
        sizes += [2] * (rest // 2) + [1] * (rest % 2)
        self._begun = True
        return torch.cat([part for block in x.split(sizes, dim=2) for part in self._run(block)], 2)

    def _run(self, block: Tensor) -> list[Tensor]:
        before = list(self._memory)
        parts: list[Tensor] = self._vae.decoder(block, feat_cache=self._memory, feat_idx=[0])
        for i, (old, new) in enumerate(zip(before, self._memory, strict=True)):
            if isinstance(old, Tensor) and isinstance(new, Tensor) and new.shape[2] == 1:
                self._memory[i] = torch.cat((old[:, :, -1:].to(new), new), dim=2)
        return parts


class Wan22Decoder(_CausalDecoder):
    """Decode latents of the Wan 2.2 VAE, frame by frame as the host does."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames."""
        frames = []
        for frame in self._vae.conv2(latents).split(1, dim=2):
            first = {} if self._begun else {"first_chunk": True}
            self._begun = True
            frames.append(self._vae.decoder(frame, feat_cache=self._memory, feat_idx=[0], **first))
        # Four channels are the pixels of a square, column by column.
        x = torch.cat(frames, dim=2).permute(0, 2, 1, 4, 3)
        return pixel_shuffle(x, 2).permute(0, 2, 1, 4, 3)
