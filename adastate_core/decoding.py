"""Decode a stream as it grows: causal video decoders that remember their convolutions.

A causal decoder keeps the last two frames that every convolution has seen. The host's own loop
begins anew with every call, so that parts of a video decoded one by one do not join. Here the same
modules run in a loop that keeps what they remember, and parts are equal to the whole.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from .errors import UnsupportedFamilyError

Memory = list[Tensor | str | None]
"""What each convolution has seen: frames, a mark, or nothing yet."""


class StreamDecoder(Protocol):
    """Decode the frames of one video, part after part."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            latents: (B, C, T, H, W), in the VAE's dtype and on its device.

        Returns:
            (B, 3, frames, height, width): for the first latent frame of the video one frame, for
            each other one as many as the decoder's time stride.
        """
        ...


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


def stream_decoder(vae: object) -> StreamDecoder:
    """Return a decoder for a video of its own.

    Args:
        vae: The host's VAE module.

    Raises:
        UnsupportedFamilyError: If it is none whose decoder is known to be causal.
    """
    kind = type(vae)
    known = kind.__name__ == "WanVAE" and hasattr(vae, "conv2") and _remembers(vae)
    if known and kind.__module__.endswith(".vae2_2"):
        return Wan22Decoder(cast(nn.Module, vae))
    if known and kind.__module__.endswith(".vae"):
        return WanDecoder(cast(nn.Module, vae))
    raise UnsupportedFamilyError(
        "vae",
        seen=kind.__name__,
        expected="the VAE of Wan 2.1 or Wan 2.2",
        remedy="decode with VAE Decode, the whole stream at once",
    )


def _remembers(vae: object) -> bool:
    """Say whether the decoder still takes what its convolutions remember."""
    forward = getattr(getattr(vae, "decoder", None), "forward", None)
    taken = inspect.signature(forward).parameters if forward is not None else {}
    return {"feat_cache", "feat_idx"} <= set(taken)
