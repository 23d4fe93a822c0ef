"""Mochi: joint attention over video and text, learned rotary frequencies.

Token order is frame, row, column, then text. Every interleaved pair of every head rotates with all
three axes, by learned frequencies; row 0 of `pos_frequencies` (3, heads, pairs) is the one of time.
Rows and columns are stretched over an area of 192 x 192 tokens at every size (`AsymmDiTJoint` in
genmoai/mochi). Text does not rotate.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from ..attention.layers import AttentionCalls, joint
from ..attention.rope import Frequencies, SpatialRope, TemporalRope
from .family import ModelTraits, width_read

_AREA = 192.0 * 192.0


class MochiFamily:
    """The Mochi 1 transformer."""

    label = "Mochi 1"
    sound = None

    def matches(self, model: object) -> bool:
        """Recognise the class by name."""
        return type(model).__name__ == "AsymmDiTJoint"

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and the learned temporal frequencies off the module."""
        dit = cast(Any, model)
        time, down, along = (_frequencies(axis) for axis in dit.pos_frequencies)
        return ModelTraits(
            family="mochi",
            latent_channels=dit.in_channels,
            layers=len(dit.blocks),
            width=dit.hidden_size_x,
            heads=len(time),
            patch=(dit.patch_size, dit.patch_size),
            rope=TemporalRope(time),
            calls=AttentionCalls(per_block=1, of_block=(joint("video", "text"),)),
            time_stride=6,
            spatial_rope=SpatialRope(down, along, area=_AREA),
            text_width=width_read(dit, "t5_yproj"),
        )


def _frequencies(axis: Tensor) -> Frequencies:
    return tuple(tuple(row) for row in axis.detach().double().cpu().tolist())
