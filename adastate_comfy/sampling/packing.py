"""The latents of a block in the form in which ComfyUI's samplers handle them.

A sampler sees one tensor. Of a model that makes sound along with the video it is both in a row;
which shapes they have, the host's model is told in every forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.utils
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ...adastate_core.families.family import SoundTraits
from ...adastate_core.rollout.latent_block import LatentBlock

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockPacking:
    """How the blocks of a model are packed.

    Args:
        sound: What the model's sound is like; None for a model without.
        scale: By how much samplers have sound larger than its VAE. ComfyUI versions that bring the
            schedule of a sound onto that of the video multiply it so; noise stays as it is.
    """

    sound: SoundTraits | None
    scale: float = 1.0

    @classmethod
    def of(cls, sound: SoundTraits | None, model_sampling: object) -> BlockPacking:
        """Return how a model's blocks are packed; what its sampling says of the sound counts."""
        return cls(sound, float(getattr(model_sampling, "audio_scale", 1.0)))

    @property
    def one_schedule(self) -> BlockPacking:
        """Return how blocks are packed whose sound has the noise level of its video."""
        return replace(self, scale=1.0)

    def pack(self, block: LatentBlock) -> Tensor:
        """Return the latents of a block as one tensor."""
        if block.sound is not None and self.scale != 1.0:
            block = LatentBlock(block.video, block.sound * self.scale)
        return self.pack_noise(block)

    def pack_noise(self, noise: LatentBlock) -> Tensor:
        """Return the noise of a block as one tensor."""
        if self._alone(noise):
            return noise.video
        packed: Tensor = comfy.utils.pack_latents(self.tracks(noise))[0]
        return packed

    def unpack(self, packed: Tensor, like: LatentBlock) -> LatentBlock:
        """Return the block of packed latents.

        Args:
            packed: What `pack` made, or a sampler made of it.
            like: A block of the same shapes.
        """
        if self.sound is None or self._alone(like):
            return LatentBlock(packed)
        video, sound = comfy.utils.unpack_latents(packed, self.shapes(like))
        if like.sound is None:
            return LatentBlock(video)
        heard = self.sound.from_model(sound)
        return LatentBlock(video, heard if self.scale == 1.0 else heard / self.scale)

    def shapes(self, block: LatentBlock) -> list[Shape]:
        """Return the shapes of the tracks, as the host's model has them."""
        return [tuple(track.shape) for track in self.tracks(block)]

    def packed_shape(self, block: LatentBlock) -> Shape:
        """Return the shape of what `pack` makes of a block."""
        tracks = self.tracks(block)
        if len(tracks) == 1:
            return tuple(tracks[0].shape)
        batch = block.video.shape[0]
        return batch, 1, sum(track.numel() for track in tracks) // batch

    def nested(self, block: LatentBlock) -> Tensor | NestedTensor:
        """Return a block as the host's own sampling takes it."""
        return block.video if self._alone(block) else NestedTensor(self.tracks(block))

    def tracks(self, block: LatentBlock) -> list[Tensor]:
        """Return the tracks as the host's model has them; without sound, one of no length.

        A model that takes a video alone gets that.
        """
        if self.sound is None or self._alone(block):
            return [block.video]
        sound = block.sound
        if sound is None:
            sound = self.sound.empty(block.video)
        return [block.video, self.sound.to_model(sound)]

    def _alone(self, block: LatentBlock) -> bool:
        return self.sound is None or (self.sound.optional and block.sound is None)
