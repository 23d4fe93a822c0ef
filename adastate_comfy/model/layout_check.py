"""Compare a family's descriptor with what the loaded model does, once per MODEL.

Equal frames get equal keys but for their place in time. So in one forward over equal frames, the
keys of every frame must be those of the first, rotated, and so must those of every other track of
the block. This finds out when an update of the host
changed the order of tokens or the layout of rotary channels, before a stream comes out wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...adastate_core.attention.block_attention import SelfAttention
from ...adastate_core.attention.geometry import AttentionGeometry, parts
from ...adastate_core.errors import UnsupportedFamilyError
from ...adastate_core.layout import TrackName
from ...adastate_core.rollout.latent_block import LatentBlock

# Half precision rounds keys to about 0.01 of their size; a wrong layout is off by 1 or more.
_TOLERANCE = 0.05


class LayoutProbe:
    """A view that looks at the calls of the first layer in place of a chunk's and ends the forward.

    Args:
        geometry: The descriptor's view of the model.
        frames: Frames of the block, all equal.
        ticks: Latents of its sound, all equal.
        spatial: Whether all places of the image are equal too, and are to be compared.
    """

    origin = first_frame = 0
    conditionings: tuple[int, ...] = (0,)

    def __init__(self, geometry: AttentionGeometry, frames: int, ticks: int, spatial: bool) -> None:
        self.geometry = geometry
        # No image is joined to a frame of the state, so all frames are equal in that too.
        self.frames = self.state_frames = frames
        self.places = geometry.places(0, frames, ticks)
        self._spatial, self._distance = spatial, 0.0
        self._left = [of.name for of in geometry.calls.tracked]

    def attend(self, call: SelfAttention) -> Tensor:
        """Compare the keys of all units with those of the first; the last call ends the forward."""
        for name, where in parts(call.call.keys, self.geometry.sizes(self.places), call.k.shape[1]):
            if name in self.places:
                distance = self._compare(call, name, call.k[:, where])
                self._distance = max(self._distance, distance)
        self._left.remove(call.call.name)
        if not self._left:
            raise _Compared(self._distance)
        return call.attention(call.q, call.k, call.v, None)

    def _compare(self, call: SelfAttention, name: TrackName, k: Tensor) -> float:
        track, native = self.geometry.tracks[name], self.places[name]
        k, spatial_rope = track.by_unit(k), self.geometry.spatial_rope
        first = k[:, : track.tokens]
        in_space = self._spatial and name == "video" and call.call.in_space
        if in_space and spatial_rope is not None:
            first = spatial_rope.rotate(k[:, :1].expand_as(first), self.geometry.columns)
        first = first.repeat(1, len(native), 1, 1)
        rope = self.geometry.rope_of(call.call)
        expected = rope.rotate(first, tuple(index - native[0] for index in native))
        return float((k - expected).abs().max() / k.abs().max().clamp(min=1e-6))


class _Compared(Exception):
    """The end of the forward, with the relative distance of the keys."""

    def __init__(self, distance: float) -> None:
        self.distance = distance


def check_layout(
    forward: Callable[[LatentBlock, LayoutProbe], object],
    geometry: AttentionGeometry,
    blank: LatentBlock,
    family: str,
    spatial: bool,
) -> None:
    """Run the comparison.

    Args:
        forward: Runs one forward of the model with a probe in place.
        geometry: The descriptor's view of the model.
        blank: A block of this stream.
        family: Name of the family.
        spatial: Whether the rotation by places in the image is used, and so compared too.

    Raises:
        UnsupportedFamilyError: If the model is not as described.
    """
    batch, channels, frames, height, width = blank.video.shape
    frames = max(frames, 2)
    source = torch.Generator().manual_seed(0)
    # What a later call of a layer is given depends on the earlier ones: they change nothing where
    # all places are equal.
    size = (1, 1) if spatial or len(geometry.calls.tracked) > 1 else (height, width)
    frame = torch.randn((batch, channels, 1, *size), generator=source)
    frame = frame.expand(-1, -1, -1, height, width)
    seen = "no self-attention"
    sound, ticks = blank.sound, 0
    if sound is not None:
        ticks = sound.shape[2]
        sound = torch.randn((*sound.shape[:2], 1, sound.shape[3]), generator=source)
        sound = sound.repeat(1, 1, ticks, 1)
    block = LatentBlock(frame.repeat(1, 1, frames, 1, 1), sound)
    try:
        forward(block, LayoutProbe(geometry, frames, ticks, spatial))
    except _Compared as result:
        if result.distance <= _TOLERANCE:
            return
        places = "time and image" if spatial else "time"
        seen = f"frames placed in {places} otherwise (keys differ by {result.distance:.2g})"
    raise UnsupportedFamilyError(
        "layout of the model",
        problem=f"this {family} model is built otherwise than AdaState knows it: {seen}",
        seen=seen,
        expected=f"the one of {family} that AdaState knows",
        remedy="update AdaState, or use a ComfyUI version that it names as supported",
    )
