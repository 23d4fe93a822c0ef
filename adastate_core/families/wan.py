"""Wan 2.1 and 2.2: cross-attended text, rotary axes time | height | width, interleaved pairs.

Token order is frame, row, column. With d channels a head, the temporal axis has the first
d - 4 (d // 6) of them and the others 2 (d // 6) each; pair i of an axis with p pairs rotates by
10000^(-i/p) radians a step (`WanModel` in Wan-Video/Wan2.1, `wan/modules/model.py`). Image-to-video
weights take 4 channels of a mask and as many of an image as the video has with every frame.
"""

from __future__ import annotations

from typing import Any, cast

from ..attention.layers import AttentionCalls
from ..attention.rope import SpatialRope, TemporalRope, rope_frequencies, spatial_frequencies
from .family import ModelTraits, refuse, width_read

_MASK = 4
_SERVED = ("WanModel", "CausalWanModel")
_REFUSED = {
    "VaceWanModel": "VACE adds a control stream that has no place in the cache",
    "CameraWanModel": "camera control adds a signal per frame that is not streamed",
    "WanModel_S2V": "speech-to-video adds audio and reference tokens",
    "HumoWanModel": "HuMo adds audio and reference tokens",
    "AnimateWanModel": "Wan Animate adds pose and face streams",
    "SCAILWanModel": "SCAIL adds pose and reference tokens",
    "SCAIL2WanModel": "SCAIL adds pose and reference tokens",
    "WanDancerModel": "Wan Dancer adds music and reference tokens",
}


class WanFamily:
    """The plain Wan transformer of any size, text-to-video or image-to-video."""

    label = "Wan 2.1 or 2.2 text-to-video or image-to-video"
    sound = None

    def matches(self, model: object) -> bool:
        """Recognise the class by name, so that the core need not import its host."""
        name = type(model).__name__
        reason = _REFUSED.get(name)
        if name in _SERVED and _joined(model) not in (0, cast(Any, model).out_dim + _MASK):
            reason = f"its input has {_joined(model)} channels of controls besides the video"
        if reason is not None:
            refuse(name, reason, self.label)
        return name in _SERVED

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and rotary frequencies off the module."""
        wan = cast(Any, model)
        head, theta = wan.dim // wan.num_heads, float(wan.rope_embedder.theta)
        pairs, across = (head - 4 * (head // 6)) // 2, rope_frequencies(head // 6, theta)
        return ModelTraits(
            family="wan2.1",
            latent_channels=wan.out_dim,
            layers=wan.num_layers,
            width=wan.dim,
            heads=wan.num_heads,
            patch=(wan.patch_size[1], wan.patch_size[2]),
            rope=TemporalRope((rope_frequencies(pairs, theta),)),
            calls=AttentionCalls(),
            can_shift=True,
            time_stride=4,
            spatial_rope=SpatialRope(*spatial_frequencies(pairs, across, across)),
            needs_image=_joined(model) > 0,
            fills_up=True,
            text_width=width_read(wan, "text_embedding.0"),
        )


def _joined(model: object) -> int:
    """Count the input channels besides those of the video."""
    wan = cast(Any, model)
    return int(wan.in_dim - wan.out_dim)
