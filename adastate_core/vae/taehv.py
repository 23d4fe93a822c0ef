"""Tiny autoencoders of video (TAEHV), whose blocks keep their last frame from part to part."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from .base import StreamDecoder, StreamEncoder
from .detect import takes

_PLAIN = {"Clamp", "Conv2d", "ReLU", "LeakyReLU", "Upsample"}


class MemoryBlocks:
    """The blocks of a decoder or encoder, for frames that come in parts.

    A block with memory takes each frame with the one before it; at the start of a video that is
    zero.

    Args:
        blocks: The host's blocks, in order.
    """

    def __init__(self, blocks: nn.Sequential) -> None:
        self._blocks = blocks
        self._past: dict[int, Tensor] = {}

    @staticmethod
    def fits(blocks: object) -> bool:
        """Say whether these are blocks that can be run here."""
        if not isinstance(blocks, nn.Sequential):
            return False
        names = {type(block).__name__ for block in blocks}
        memory = [block for block in blocks if type(block).__name__ == "MemBlock"]
        known = names <= _PLAIN | {"MemBlock", "TGrow", "TPool"}
        return known and bool(memory) and all(takes(block, "x", "past") for block in memory)

    def run(self, frames: Tensor) -> Tensor:
        """Run the next frames.

        Args:
            frames: (B, T, C, H, W); T a multiple of what the blocks pool in time.

        Returns:
            (B, T', C', H', W').
        """
        batch = frames.shape[0]
        x: Tensor = frames.flatten(0, 1)
        for index, block in enumerate(self._blocks):
            if type(block).__name__ != "MemBlock":
                x = block(x)
                continue
            own = x.unflatten(0, (batch, -1))
            first = self._past.get(index, torch.zeros_like(own[:, :1]))
            past = torch.cat((first, own[:, :-1]), dim=1).flatten(0, 1)
            # A copy: a view would keep all of the frames.
            self._past[index] = own[:, -1:].clone()
            x = block(x, past)
        return x.reshape(batch, -1, *x.shape[1:])


class TaehvDecoder(StreamDecoder):
    """The decoder of a TAEHV, frame by frame.

    Args:
        vae: The host's VAE module.
    """

    def __init__(self, vae: nn.Module) -> None:
        self._vae = cast(Any, vae)
        self._blocks = MemoryBlocks(self._vae.decoder)
        self._trim = int(self._vae.frames_to_trim)
        self._stride = self._trim + 1

    @staticmethod
    def fits(vae: nn.Module) -> bool:
        """Say whether the module still has the parts that are run here."""
        known = all(hasattr(vae, name) for name in ("process_in", "patch_size", "frames_to_trim"))
        return known and MemoryBlocks.fits(getattr(vae, "decoder", None))

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames; the first latent frame of the video gives one."""
        x = self._vae.process_in(latents).movedim(2, 1)
        frames = []
        for frame in x.split(1, dim=1):
            out = self._blocks.run(frame)[:, self._trim :]
            self._trim = 0
            frames.append(pixel_shuffle(out, self._vae.patch_size))
        return torch.cat(frames, dim=1).movedim(2, 1)

    def frames_of(self, latents: int) -> int:
        """Return how many pictures the first latent frames make: one for the first one."""
        return max(0, self._stride * (latents - 1) + 1)


class TaehvEncoder(StreamEncoder):
    """The encoder of a TAEHV; at the end the last frame is repeated until a latent frame is full.

    Args:
        vae: The host's VAE module.
    """

    def __init__(self, vae: nn.Module) -> None:
        self._vae = cast(Any, vae)
        stride = int(self._vae.t_downscale)
        super().__init__(stride, stride)
        self._blocks = MemoryBlocks(self._vae.encoder)
        self._parts: list[Tensor] = []

    @staticmethod
    def fits(vae: nn.Module) -> bool:
        """Say whether the module still has the parts that are run here."""
        known = all(hasattr(vae, name) for name in ("process_out", "patch_size", "t_downscale"))
        return known and MemoryBlocks.fits(getattr(vae, "encoder", None))

    def _fills(self, frames: int) -> bool:
        return frames > 0

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        missing = self.stride - frames.shape[2]
        frames = torch.cat((frames, frames[:, :, -1:].expand(-1, -1, missing, -1, -1)), dim=2)
        x = pixel_unshuffle(frames.movedim(2, 1), self._vae.patch_size)
        self._parts.append(self._blocks.run(x))

    def _latents(self) -> Tensor:
        latents: Tensor = self._vae.process_out(torch.cat(self._parts, dim=1).movedim(2, 1))
        return latents
