"""What a host's attention hook has to know about the block that a model runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..layout import TrackName
from .geometry import AttentionGeometry
from .layers import SELF, LayerCall

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Attention over (B, S, H, D) queries, keys and values, returning (B, S, H, D).

The last argument is a bias on the logits of each key, (keys,), or None: then no mask is needed.
"""

AttentionOfPart = Callable[[slice, slice], Attention]
"""The attention of some queries of a call to some keys of its block, and to any in front."""


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Compute torch's scaled dot-product attention."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mask = None if bias is None else bias[None]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


@dataclass(frozen=True, slots=True, repr=False)
class SelfAttention:
    """One attention of a block to itself, or of one of its tracks to another.

    Args:
        layer: Index of the layer.
        conditionings: Conditioning index of each equal slice of the batch.
        q: Queries as the model projected and rotated them, (B, S, H, D), those of all tracks of
            the call.
        k: Keys, the same, of as many tokens as its tracks of keys have.
        v: Values, like the keys.
        attention: The attention to use, the model's own for one.
        call: Which of its layer's calls it is.
        of_part: The attention of a part of the queries to a part of the keys, where that is
            another: a mask that the model gives belongs to all of them.
    """

    layer: int
    conditionings: tuple[int, ...]
    q: Tensor
    k: Tensor
    v: Tensor
    attention: Attention = plain_attention
    call: LayerCall = SELF
    of_part: AttentionOfPart | None = None

    def part(self, queries: slice, keys: slice) -> Attention:
        """Return the attention of some of the queries to some of the keys of the block."""
        return self.attention if self.of_part is None else self.of_part(queries, keys)


class BlockAttention(Protocol):
    """One block, and what computes its attention."""

    @property
    def origin(self) -> int:
        """Temporal index at which the model numbers the first frame of the block."""
        ...

    @property
    def geometry(self) -> AttentionGeometry:
        """How the model orders and numbers the tokens of the block."""
        ...

    @property
    def places(self) -> Mapping[TrackName, tuple[float, ...]]:
        """Place in time that the model gives every unit of the block, track by track."""
        ...

    @property
    def frames(self) -> int:
        """Latent frames of the block."""
        ...

    @property
    def state_frames(self) -> int:
        """Frames in front of the content."""
        ...

    @property
    def first_frame(self) -> int:
        """Content frame of the stream at which the content begins."""
        ...

    @property
    def conditionings(self) -> tuple[int, ...]:
        """Indices of the conditionings whose past it has; a commit is made under each."""
        ...

    def attend(self, call: SelfAttention) -> Tensor:
        """Compute one attention; return its output, (B, S, H, D)."""
        ...
