"""How a model orders, numbers and rotates the tokens of a block.

Models with joint attention have text tokens in the same sequence as those of the video. The text
attends to the past and to the current block like the video does; only keys and values of the video
enter the cache. That is causal, but it is not what a model that was trained on whole videos has
seen: there the text of the first frames had already attended to the last ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .layers import AttentionCalls
from .rope import SpatialRope, TemporalRope

TextPlace = Literal["none", "prefix", "suffix"]


@dataclass(frozen=True, slots=True)
class AttentionGeometry:
    """The self-attention of a model on latents of one height and width.

    Args:
        layers: Layers with self-attention.
        tokens_per_frame: Tokens of one latent frame, in row-major order, frames outermost.
        columns: Tokens of a row.
        rope: Rotary channels of the temporal axis.
        calls: Which attention calls of a forward are the self-attentions of its layers, for a host
            that cannot tell.
        text: Where text tokens are in a self-attention, `none` if it has none.
        can_shift: Whether the host can make the model number its frames from another origin.
        first_index: Temporal index that the model gives the first frame of a block; the others are
            at 1, 2, and so on. Not 0 for models that place a video's first, shorter frame apart.
        spatial_rope: Rotary channels of the two spatial axes, None if they are not known.
    """

    layers: int
    tokens_per_frame: int
    columns: int
    rope: TemporalRope
    calls: AttentionCalls = field(default_factory=AttentionCalls)
    text: TextPlace = "none"
    can_shift: bool = False
    first_index: float = 0.0
    spatial_rope: SpatialRope | None = None

    def native(self, origin: int, frames: int) -> tuple[float, ...]:
        """Return the temporal indices that the model gives the frames of a block."""
        indices: tuple[float, ...] = tuple(range(origin, origin + frames))
        return (self.first_index, *indices[1:]) if self.first_index else indices


def video_part(x: Tensor, place: TextPlace, video_tokens: int) -> Tensor:
    """Return the tokens of the video of (B, S, H, D), as a view, without those of the text."""
    if place == "prefix":
        return x[:, x.shape[1] - video_tokens :]
    return x if place == "none" else x[:, :video_tokens]
