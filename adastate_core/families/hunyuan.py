"""HunyuanVideo: joint attention over text and video, rotary axes time | height | width.

Tokens stand text first, then frame, row, column. The first `axes_dim[0]` channels of a head turn
with time, in interleaved pairs; pair i of its p pairs turns by theta^(-i/p) radians a frame
(`HYVideoDiffusionTransformer` in Tencent-Hunyuan/HunyuanVideo). Text stands at position 0 of every
axis and does not turn.
"""

from __future__ import annotations

from typing import Any, cast

from ..calls import AttentionCalls
from ..rope import TemporalRotation, geometric
from .family import ModelTraits
from .refusal import refuse


class HunyuanVideoFamily:
    """Describe the HunyuanVideo text-to-video transformer."""

    label = "HunyuanVideo text-to-video"

    def matches(self, model: object) -> bool:
        """Recognise the class by name; image models and image-to-video weights are refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name != "HunyuanVideo":
            return False
        if len(dit.patch_size) != 3:
            refuse(name, "it makes single images", self.label)
        if dit.in_channels != dit.out_channels:
            refuse(name, "its input has channels for an image besides the video", self.label)
        return True

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and rotary frequencies off the module."""
        dit = cast(Any, model)
        pairs = dit.params.axes_dim[0] // 2
        return ModelTraits(
            family="hunyuan-video",
            latent_channels=dit.in_channels,
            layers=len(dit.double_blocks) + len(dit.single_blocks),
            width=dit.hidden_size,
            patch=(dit.patch_size[1], dit.patch_size[2]),
            rotation=TemporalRotation((geometric(pairs, float(dit.params.theta)),)),
            calls=AttentionCalls(named=True),
            text="first",
            time_stride=4,
        )
