"""Kandinsky 5: cross-attended text, rotary axes time | height | width, interleaved pairs.

The first `axes_dim[0]` channels of a head rotate with time; pair i of its p pairs rotates by
theta^(-i/p) radians a frame (`DiffusionTransformer3D` in kandinskylab/kandinsky-5). Setting another
temporal origin through the host would also replace the scale of its spatial positions, so
frames are rotated instead.
"""

from __future__ import annotations

from typing import Any, cast

from ..attention.layers import AttentionCalls
from ..attention.rope import SpatialRope, TemporalRope, rope_frequencies, spatial_frequencies
from .family import ModelTraits, refuse, width_read

_PRO_WIDTH = 4096


class Kandinsky5Family:
    """The Kandinsky 5 video transformer."""

    label = "Kandinsky 5 text-to-video"
    sound = None

    def matches(self, model: object) -> bool:
        """Recognise the class by name; its image model is refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name == "Kandinsky5" and dit.visual_embed_dim != 4 * (2 * dit.in_visual_dim + 1):
            refuse(name, "it makes single images", self.label)
        return name == "Kandinsky5"

    def describe(self, model: object) -> ModelTraits:
        """Read sizes off the module."""
        dit = cast(Any, model)
        rope = dit.rope_embedder_3d
        time, down, along = (
            rope_frequencies(size // 2, float(rope.theta)) for size in rope.axes_dim
        )
        return ModelTraits(
            family="kandinsky5",
            latent_channels=dit.in_visual_dim,
            layers=len(dit.visual_transformer_blocks),
            width=dit.model_dim,
            heads=dit.model_dim // sum(rope.axes_dim),
            patch=(dit.patch_size[1], dit.patch_size[2]),
            rope=TemporalRope((time,)),
            calls=AttentionCalls(),
            time_stride=4,
            spatial_rope=_space(dit, len(time), down, along),
            text_width=width_read(dit, "text_embeddings.in_layer"),
        )


def _space(
    model: object, time: int, down: tuple[float, ...], along: tuple[float, ...]
) -> SpatialRope | None:
    """Return the spatial RoPE; the largest model changes its scale with the size."""
    dit = cast(Any, model)
    if dit.model_dim == _PRO_WIDTH:
        return None
    _, rows, columns = dit.rope_scale_factor
    scaled = (tuple(f / rows for f in down), tuple(f / columns for f in along))
    return SpatialRope(*spatial_frequencies(time, *scaled))
