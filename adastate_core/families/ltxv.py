"""LTX-Video: cross-attended text, positions in seconds, rotary pairs over all heads together.

Of the D channels of all heads, D mod 6 in front do not rotate. The rest are triples of interleaved
pairs, one pair each for time, height and width. Of n triples, triple j rotates by
10000^(j / (n - 1)) x pi / 2 per unit of a position that runs from -1 to 1 over
`positional_embedding_max_pos` (`LTXVideo` in Lightricks/LTX-Video). A latent frame is 8 video
frames at the 25 per second that the host assumes; a token is 32 pixels wide and high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from ..attention.layers import AttentionCalls
from ..attention.rope import Frequencies, SpatialRope, TemporalRope
from .family import ModelTraits, refuse, width_read

_STRIDE, _FRAME_RATE, _THETA, _PIXELS = 8, 25.0, 10000.0, 32


class LtxVideoFamily:
    """The LTX-Video transformer without audio."""

    label = "LTX-Video"
    sound = None

    def matches(self, model: object) -> bool:
        """Recognise the class by name; another layout is refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name != "LTXVModel":
            return False
        if getattr(dit.split_positional_embedding, "value", "interleaved") != "interleaved":
            refuse(name, "its rotary pairs are in halves", self.label)
        return True

    def describe(self, model: object) -> ModelTraits:
        """Read sizes off the module and spread the temporal pairs over its heads."""
        dit = cast(Any, model)
        seconds, rows, columns = dit.positional_embedding_max_pos
        steps = (_STRIDE / _FRAME_RATE / seconds, _PIXELS / rows, _PIXELS / columns)
        time, down, along = (_frequencies(dit, axis, 2.0 * step) for axis, step in enumerate(steps))
        return ModelTraits(
            family="ltxv",
            latent_channels=dit.in_channels,
            layers=len(dit.transformer_blocks),
            width=dit.inner_dim,
            heads=dit.num_attention_heads,
            patch=(1, 1),
            rope=TemporalRope(time),
            calls=AttentionCalls(per_block=2),
            time_stride=_STRIDE,
            first_index=_first_index(dit.causal_temporal_positioning, dit.use_middle_indices_grid),
            frame_rate=_FRAME_RATE,
            spatial_rope=SpatialRope(down, along),
            text_width=width_read(dit, "caption_projection.linear_1"),
            mask_is_noise=True,
        )


def _frequencies(model: object, axis: int, radians: float) -> Frequencies:
    """Spread the pairs of one axis over the heads; `radians` is a step as a part of the range."""
    dit = cast(Any, model)
    speeds = [speed * radians for speed in _speeds(dit.inner_dim // 6)]
    return spread(speeds, axis, 3, dit.inner_dim, dit.num_attention_heads)


def spread(speeds: Sequence[float], axis: int, axes: int, channels: int, heads: int) -> Frequencies:
    """Spread pairs over the heads, those of all axes in turn; what is left over is in front.

    Args:
        speeds: Radians a step of the pairs of an axis.
        axis: Which axis that is.
        axes: How many there are.
        channels: Channels of all heads together.
        heads: The heads.
    """
    pairs = [0.0] * (channels // 2 - axes * len(speeds))
    for speed in speeds:
        pairs += [speed if place == axis else 0.0 for place in range(axes)]
    size = len(pairs) // heads
    return tuple(tuple(pairs[i : i + size]) for i in range(0, len(pairs), size))


def _speeds(count: int) -> list[float]:
    """Return the temporal frequencies per unit of position."""
    return [_THETA ** (j / (count - 1)) * math.pi / 2.0 for j in range(count)]


def _first_index(causal: bool, middle: bool) -> float:
    """Return where the first frame is, in latent frames.

    With causal positions, latent frame t begins at video frame 8 t - 7 and ends at 8 t + 1, but the
    first one begins at 0. A model takes the beginning or the middle of a frame.
    """
    if not causal:
        return 0.0
    return (_STRIDE - 1) / 2 / _STRIDE if middle else (_STRIDE - 1) / _STRIDE
