"""The VAEs of Wan: the host's modules, in loops that keep the features of every convolution.

The host's own encoder takes all frames together. Here the same modules take them in groups, with
the same result.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from .base import StreamDecoder, StreamEncoder
from .detect import takes

FeatureCache = list[Tensor | str | None]
"""What each convolution keeps of earlier frames: features, a mark, or nothing yet."""


class _CausalDecoder(StreamDecoder):
    """A decoder of one video, whose convolutions keep features of earlier frames.

    Args:
        vae: The host's VAE module.
    """

    def __init__(self, vae: nn.Module) -> None:
        self._vae = cast(Any, vae)
        convolutions = sum(type(m).__name__ == "CausalConv3d" for m in self._vae.decoder.modules())
        self._feature_cache: FeatureCache = [None] * convolutions
        self._begun = False

    @staticmethod
    def fits(vae: nn.Module) -> bool:
        """Say whether the decoder still takes the features that its convolutions keep."""
        decoder = getattr(vae, "decoder", None)
        return hasattr(vae, "conv2") and takes(decoder, "feat_cache", "feat_idx")

    def frames_of(self, latents: int) -> int:
        return max(0, 4 * latents - 3)


class WanDecoder(_CausalDecoder):
    """The decoder of the Wan 2.1 VAE.

    The host's modules lose a frame of their features when they get a single one after the first,
    which the host's own loop does at the end only. Then the frame is put back.
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
        before = list(self._feature_cache)
        parts: list[Tensor] = self._vae.decoder(block, feat_cache=self._feature_cache, feat_idx=[0])
        for i, (old, new) in enumerate(zip(before, self._feature_cache, strict=True)):
            if isinstance(old, Tensor) and isinstance(new, Tensor) and new.shape[2] == 1:
                self._feature_cache[i] = torch.cat((old[:, :, -1:].to(new), new), dim=2)
        return parts


class Wan22Decoder(_CausalDecoder):
    """The decoder of the Wan 2.2 VAE, frame by frame as in the host."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames."""
        frames = []
        for frame in self._vae.conv2(latents).split(1, dim=2):
            first = {} if self._begun else {"first_chunk": True}
            self._begun = True
            frames.append(
                self._vae.decoder(frame, feat_cache=self._feature_cache, feat_idx=[0], **first)
            )
        # Four channels are the pixels of a square, column by column.
        x = torch.cat(frames, dim=2).permute(0, 2, 1, 4, 3)
        return pixel_shuffle(x, 2).permute(0, 2, 1, 4, 3)


class _WanEncoder(StreamEncoder):
    """The encoder of a VAE of Wan: the first frame alone, then four at a time.

    Args:
        vae: The host's VAE module.
    """

    parameters: ClassVar[tuple[str, ...]] = ("feat_cache", "feat_idx")

    def __init__(self, vae: nn.Module) -> None:
        super().__init__(1, 4)
        self._vae = cast(Any, vae)
        slots = sum(self._keeps_features(module) for module in self._vae.encoder.modules())
        self._feature_cache: list[Tensor | None] = [None] * slots
        self._features: list[Tensor] = []

    @classmethod
    def fits(cls, vae: nn.Module) -> bool:
        """Say whether the encoder still takes the features that its convolutions keep."""
        return hasattr(vae, "conv1") and takes(getattr(vae, "encoder", None), *cls.parameters)

    def _keeps_features(self, module: nn.Module) -> bool:
        return type(module).__name__ == "CausalConv3d"

    def _latents(self) -> Tensor:
        mean: Tensor = self._vae.conv1(torch.cat(self._features, dim=2)).chunk(2, dim=1)[0]
        return mean


class Wan21Encoder(_WanEncoder):
    """The encoder of the Wan 2.1 VAE, in pairs; a pair may wait in its modules for another."""

    parameters = (*_WanEncoder.parameters, "final")

    def _keeps_features(self, module: nn.Module) -> bool:
        return super()._keeps_features(module) or getattr(module, "mode", None) == "downsample3d"

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        blocks = frames.split(2, dim=2)
        for block in blocks:
            final = last and block is blocks[-1]
            out = self._vae.encoder(
                block, feat_cache=self._feature_cache, feat_idx=[0], final=final
            )
            if out is not None:
                self._features.append(out)


class Wan22Encoder(_WanEncoder):
    """The encoder of the Wan 2.2 VAE."""

    def _encode(self, frames: Tensor, *, last: bool) -> None:
        # The pixels of a square become four channels, column by column.
        x = pixel_unshuffle(frames.permute(0, 2, 1, 4, 3), 2).permute(0, 2, 1, 4, 3)
        self._features.append(self._vae.encoder(x, feat_cache=self._feature_cache, feat_idx=[0]))
