"""Clips as a stream would have them: their latents, and what the state of every chunk is to be.

The state of a chunk is the scene at the end of that chunk, encoded as a picture of its own. That
takes the pictures themselves: latents of a clip know each frame only by those around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.sd import VAE
from torch import Tensor

from ...adastate_core.errors import ConfigError, LayoutError
from ...adastate_core.stream.pace import video_frames
from ...adastate_core.training.rollout import TrainingClip
from ..model.binding import BoundModel
from ..video.clip_encoder import scaled, target_size
from ..video.clip_reader import open_clip

_LEAST_CHUNKS = 2
"""With fewer there is no past to learn from."""


@dataclass(frozen=True, slots=True, repr=False)
class ClipPlan:
    """A clip that is about to be encoded.

    Args:
        clip: IMAGE or VIDEO.
        number: Which of the clips it is, from 1.
        chunks: Whole chunks of it.
        width: Width of its pictures, scaled.
        height: Height of its pictures, scaled.
        ratio: Pixels along a latent.
    """

    clip: Any
    number: int
    chunks: int
    width: int
    height: int
    ratio: int

    @property
    def latent_size(self) -> tuple[int, int]:
        """Return height and width of its latents."""
        return self.height // self.ratio, self.width // self.ratio


def plan_clip(
    clip: Any, number: int, vae: VAE, bound: BoundModel, width: int, height: int
) -> ClipPlan:
    """Say what of a clip will be used.

    Args:
        clip: IMAGE or VIDEO.
        number: Which of the clips it is, from 1.
        vae: The VAE.
        bound: The MODEL.
        width: Width of the pictures; 0 follows from the height, or keeps the clip's.
        height: The same for the height.

    Raises:
        LayoutError: If it is too short or too small.
    """
    source, size = open_clip(clip), bound.config.chunk_frames
    count, stride = source.count(), int(bound.traits.time_stride)
    latents = (count - 1) // stride + 1 if bound.traits.short_first else count // stride
    if latents // size < _LEAST_CHUNKS:
        needed = _pictures_of(_LEAST_CHUNKS * size, bound)
        raise LayoutError(
            "clips",
            problem=f"clip {number} has {count} frames, and training takes {needed} or more",
            seen=f"{count} frames",
            expected=f"{needed} frames, which are {_LEAST_CHUNKS} chunks of {size} latent frames",
            remedy="connect a longer clip, or lower chunk_frames on Apply AdaState",
        )
    first = next(source.frames())
    wide, high = target_size((first.shape[2], first.shape[1]), width, height)
    ratio = int(vae.spacial_compression_encode())
    rows, columns = (step * ratio for step in bound.traits.patch)
    wide, high = wide // columns * columns, high // rows * rows
    if not wide or not high:
        raise LayoutError(
            "clips",
            problem=f"clip {number} is too small: {first.shape[2]} x {first.shape[1]} pixels",
            seen=f"{first.shape[2]} x {first.shape[1]}",
            expected=f"{columns} x {rows} or more",
            remedy="set width and height, or connect larger clips",
        )
    return ClipPlan(clip, number, latents // size, wide, high, ratio)


def encode_clip(plan: ClipPlan, vae: VAE, bound: BoundModel, conditioning: int) -> TrainingClip:
    """Encode a clip, and the picture at the end of every chunk on its own.

    Args:
        plan: What of it is used.
        vae: The VAE.
        bound: The MODEL.
        conditioning: Index of its prompt.

    Raises:
        ConfigError: If the VAE belongs to another model.
    """
    size = bound.config.chunk_frames
    used = _pictures_of(plan.chunks * size, bound)
    pictures = torch.cat(
        [
            scaled(frame, plan.width, plan.height)[..., :3].cpu()
            for frame in islice(open_clip(plan.clip).frames(), used)
        ]
    )
    content = _encoded(vae, pictures)[:, :, : plan.chunks * size]
    wanted = (1, bound.traits.latent_channels, plan.chunks * size, *plan.latent_size)
    if tuple(content.shape) != wanted:
        raise ConfigError(
            "vae",
            problem="this VAE does not belong to the model",
            seen=f"latents {tuple(content.shape)}",
            expected=f"{wanted}",
            remedy="load the VAE of the model",
        )
    moments = [m for chunk in range(plan.chunks) for m in _moments(chunk, bound)]
    states = [_encoded(vae, pictures[m : m + 1])[:, :, :1] for m in moments]
    form = bound.model.get_model_object("latent_format")

    def kept(latents: Tensor) -> Tensor:
        # Tensors of inference mode cannot be learned from; copies made outside of it can.
        with torch.inference_mode(False):
            own: Tensor = form.process_in(latents.cpu().clone()).float()
        return own

    return TrainingClip(
        kept(content), kept(torch.cat(states, dim=2)) if states else None, conditioning
    )


def _pictures_of(latents: int, bound: BoundModel) -> int:
    """Count the pictures of the first so many latent frames of a video."""
    return video_frames(latents, bound.traits.time_stride, begins=bound.traits.short_first)


def _moments(chunk: int, bound: BoundModel) -> list[int]:
    """Return the pictures that the state of a chunk is to show, the last of them its last one."""
    size, states = bound.config.chunk_frames, bound.policy.state_frames(bound.config)
    begin = _pictures_of(chunk * size, bound)
    count = _pictures_of((chunk + 1) * size, bound) - begin
    return [begin + max(0, round(count * (n + 1) / states) - 1) for n in range(states)]


def _encoded(vae: VAE, pictures: Tensor) -> Tensor:
    comfy.model_management.throw_exception_if_processing_interrupted()
    latents: Tensor = vae.encode(pictures)
    return latents
