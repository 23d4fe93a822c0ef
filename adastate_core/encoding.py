"""Encode a clip as it is read: causal video encoders that keep what they have seen.

The host's own encoding wants all frames at once. Here the same modules take them in groups, and
what comes out equals the whole.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from .decoding.taehv import MemoryBlocks
from .errors import LayoutError
from .vae_kinds import refuse_vae, takes, vae_kind


class StreamEncoder:
    """Encode the frames of one clip, as they come.

    Args:
        first: Frames that are encoded first.
        stride: Frames of every latent frame after the first; so many are encoded at a time.
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
            LayoutError: If there is no frame, or they do not come out even.
        """
        seen = 0 if self._waiting is None else self._waiting.shape[2]
        if self._waiting is None or not self._fills(seen):
            raise LayoutError(
                "clip",
                seen=f"{seen} frames at its end",
                expected=f"1 frame and then whole groups of {self.stride}",
                remedy="drop frames at the beginning",
            )
        self._encode(self._waiting, last=True)
        return self._latents()

    def _fills(self, frames: int) -> bool:
        return frames == self._next

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        raise NotImplementedError

    def _latents(self) -> Tensor:
        raise NotImplementedError


class _WanEncoder(StreamEncoder):
    """Encode with a VAE of Wan: the first frame alone, then four at a time.

    Args:
        vae: The host's VAE module.
    """

    parameters: ClassVar[tuple[str, ...]] = ("feat_cache", "feat_idx")

    def __init__(self, vae: nn.Module) -> None:
        super().__init__(1, 4)
        self._vae = cast(Any, vae)
        slots = sum(self._remembers(module) for module in self._vae.encoder.modules())
        self._memory: list[Tensor | None] = [None] * slots
        self._features: list[Tensor] = []

    @classmethod
    def fits(cls, vae: nn.Module) -> bool:
        """Say whether the encoder still takes what its convolutions remember."""
        return hasattr(vae, "conv1") and takes(getattr(vae, "encoder", None), *cls.parameters)

    def _remembers(self, module: nn.Module) -> bool:
        return type(module).__name__ == "CausalConv3d"

    def _latents(self) -> Tensor:
        mean: Tensor = self._vae.conv1(torch.cat(self._features, dim=2)).chunk(2, dim=1)[0]
        return mean


class Wan21Encoder(_WanEncoder):
    """Encode with the VAE of Wan 2.1, in pairs; a pair may wait in its modules for another."""

    parameters = (*_WanEncoder.parameters, "final")

    def _remembers(self, module: nn.Module) -> bool:
        return super()._remembers(module) or getattr(module, "mode", None) == "downsample3d"

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        blocks = frames.split(2, dim=2)
        for block in blocks:
            final = last and block is blocks[-1]
            out = self._vae.encoder(block, feat_cache=self._memory, feat_idx=[0], final=final)
            if out is not None:
                self._features.append(out)


class Wan22Encoder(_WanEncoder):
    """Encode with the VAE of Wan 2.2."""

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        # The pixels of a square become four channels, column by column.
        x = pixel_unshuffle(frames.permute(0, 2, 1, 4, 3), 2).permute(0, 2, 1, 4, 3)
        self._features.append(self._vae.encoder(x, feat_cache=self._memory, feat_idx=[0]))


class TaehvEncoder(StreamEncoder):
    """Encode with a TAEHV; at the end the last frame is repeated until it comes out even.

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


def stream_encoder(vae: object) -> StreamEncoder:
    """Return an encoder for a clip of its own.

    Args:
        vae: The host's VAE module.

    Raises:
        UnsupportedFamilyError: If it is none whose encoder is known to be causal.
    """
    kind, module = vae_kind(vae), cast(nn.Module, vae)
    if kind == "wan_2_1" and Wan21Encoder.fits(module):
        return Wan21Encoder(module)
    if kind == "wan_2_2" and Wan22Encoder.fits(module):
        return Wan22Encoder(module)
    if kind == "taehv" and TaehvEncoder.fits(module):
        return TaehvEncoder(module)
    refuse_vae(vae, "encode with VAE Encode, the whole clip at once")
