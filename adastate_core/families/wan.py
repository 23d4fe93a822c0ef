"""Wan 2.1 and 2.2: cross-attended text, rotary axes time | height | width, interleaved pairs.

Token order is frame, row, column. With d channels a head, the temporal axis has the first
d - 4 (d // 6) of them; pair i of its p pairs turns by 10000^(-i/p) radians a frame (`WanModel` in
Wan-Video/Wan2.1, `wan/modules/model.py`).
"""

from __future__ import annotations

from typing import Any, cast

from ..calls import AttentionCalls
from ..rope import TemporalRotation, geometric
from .family import ModelTraits
from .refusal import refuse

_SERVED = ("WanModel", "CausalWanModel")
_REFUSED = {
    "VaceWanModel": "VACE adds a control stream that has no place in the cache",
    "CameraWanModel": "camera control adds a signal per frame that is not streamed",
    "WanModel_S2V": "speech-to-video adds audio and reference tokens",
    "HumoWanModel": "HuMo adds audio and reference tokens",
    "AnimateWanModel": "Wan Animate adds pose and face streams",
    "SCAILWanModel": "SCAIL adds pose and reference tokens",
}


class WanFamily:
    """Describe the plain Wan text-to-video transformer of any size."""

    label = "Wan 2.1 or 2.2 text-to-video"

    def matches(self, model: object) -> bool:
        """Recognise the class by name, so that the core need not import its host."""
        name = type(model).__name__
        reason = _REFUSED.get(name)
        if name in _SERVED and getattr(model, "model_type", "t2v") != "t2v":
            reason = "image-to-video weights expect an image with every frame"
        elif name in _SERVED and cast(Any, model).in_dim != cast(Any, model).out_dim:
            reason = "its input has channels for an image or a mask besides the video"
        if reason is not None:
            refuse(name, reason, self.label)
        return name in _SERVED

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and rotary frequencies off the module."""
        wan = cast(Any, model)
        head = wan.dim // wan.num_heads
        pairs = (head - 4 * (head // 6)) // 2
        return ModelTraits(
            family="wan2.1",
            latent_channels=wan.in_dim,
            layers=wan.num_layers,
            width=wan.dim,
            patch=(wan.patch_size[1], wan.patch_size[2]),
            rotation=TemporalRotation((geometric(pairs, float(wan.rope_embedder.theta)),)),
            calls=AttentionCalls(named=True),
            can_shift=True,
            time_stride=4,
        )
