"""What a family descriptor must say about a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..attention import BlockShape
from ..rope import TemporalRotation


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """Describe one loaded model, as far as streaming needs it.

    Args:
        family: Name of the family.
        latent_channels: Channels of its latents.
        layers: Layers with self-attention.
        width: Channels of keys, all heads together; values have as many.
        patch: Latent rows and columns that one token covers.
        rotation: Rotary channels that turn with time.
        can_shift: Whether the host can make the model number its frames from another origin.
        time_stride: Video frames of one latent frame after the first.
    """

    family: str
    latent_channels: int
    layers: int
    width: int
    patch: tuple[int, int]
    rotation: TemporalRotation
    can_shift: bool
    time_stride: int

    def block_shape(self, height: int, width: int) -> BlockShape:
        """Return how the model numbers frames of a latent height and width."""
        rows, columns = -(-height // self.patch[0]), -(-width // self.patch[1])
        return BlockShape(self.layers, rows * columns, self.rotation, self.can_shift)

    def cache_values(self, height: int, width: int, frames: int) -> int:
        """Count the numbers that keys and values of some frames consist of, in all layers."""
        tokens = self.block_shape(height, width).tokens_per_frame * frames
        return 2 * self.layers * self.width * tokens


class Family(Protocol):
    """Recognise and describe the models of one architecture."""

    @property
    def label(self) -> str:
        """Name the family as an artist knows it."""
        ...

    def matches(self, model: object) -> bool:
        """Say whether a module is of this family; a variant it cannot serve is refused.

        Raises:
            UnsupportedFamilyError: If the module is a variant that cannot be streamed.
        """
        ...

    def describe(self, model: object) -> ModelTraits:
        """Describe a module that matches."""
        ...
