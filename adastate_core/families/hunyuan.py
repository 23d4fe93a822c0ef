"""HunyuanVideo: joint attention over text and video, rotary axes time | height | width.

Token order is text, then frame, row, column. The first `axes_dim[0]` channels of a head rotate with
time, in interleaved pairs; pair i of its p pairs rotates by theta^(-i/p) radians a frame
(`HYVideoDiffusionTransformer` in Tencent-Hunyuan/HunyuanVideo). Text is at position 0 of every
axis and does not rotate. Version 1.5 takes an image and one channel of a mask with every frame,
zeros where there is none, and puts image and glyph tokens in front of the text.
"""

from __future__ import annotations

from typing import Any, cast

from ..attention.layers import AttentionCalls, joint
from ..attention.rope import SpatialRope, TemporalRope, rope_frequencies, spatial_frequencies
from .family import ModelTraits, refuse, width_read

_MASK = 1


class HunyuanVideoFamily:
    """The HunyuanVideo transformers: 1 text-to-video, and 1.5."""

    label = "HunyuanVideo text-to-video or HunyuanVideo 1.5"
    sound = None

    def matches(self, model: object) -> bool:
        """Recognise the class by name; image models and image-to-video weights are refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name != "HunyuanVideo":
            return False
        if len(dit.patch_size) != 3:
            refuse(name, "it makes single images", self.label)
        joined = dit.in_channels - dit.out_channels
        if joined not in (0, dit.out_channels + _MASK):
            refuse(name, f"its input has {joined} channels besides the video", self.label)
        return True

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and rotary frequencies off the module."""
        dit = cast(Any, model)
        theta = float(dit.params.theta)
        time, down, along = (rope_frequencies(size // 2, theta) for size in dit.params.axes_dim)
        return ModelTraits(
            family="hunyuan-video",
            latent_channels=dit.out_channels,
            layers=len(dit.double_blocks) + len(dit.single_blocks),
            width=dit.hidden_size,
            heads=dit.num_heads,
            patch=(dit.patch_size[1], dit.patch_size[2]),
            rope=TemporalRope((time,)),
            calls=AttentionCalls(
                blocks=(("double", 0), ("single", len(dit.double_blocks))),
                of_block=(joint("text", "video"),),
            ),
            time_stride=4,
            spatial_rope=SpatialRope(*spatial_frequencies(len(time), down, along)),
            text_width=width_read(dit, "txt_in.input_embedder"),
        )
