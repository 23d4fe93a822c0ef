"""Latents of a clip of any length, encoded frame by frame."""

from __future__ import annotations

from itertools import islice

import comfy.model_management
import comfy.utils
from comfy.sd import VAE
from comfy_api.latest import Input
from torch import Tensor

from ...adastate_core.errors import LayoutError
from ...adastate_core.vae.registry import stream_encoder
from .clip_reader import open_clip


class ClipEncoder:
    """A clip that is about to be encoded.

    A causal VAE takes 1 frame and then groups of as many as its stride. The oldest frames of a
    clip of another length are dropped, since the newest are those a stream goes on from.

    Args:
        vae: The VAE.
        clip: IMAGE or VIDEO.

    Raises:
        UnsupportedFamilyError: If the VAE cannot encode frame by frame.
        LayoutError: If the clip has no frames.
    """

    def __init__(self, vae: VAE, clip: Tensor | Input.Video) -> None:
        self._vae = vae
        self._encoder = stream_encoder(vae.first_stage_model)
        self._clip = open_clip(clip)
        self._count = self._clip.count()
        if self._count == 0:
            raise LayoutError(
                "clip",
                problem="the clip has no frames",
                seen="no frames",
                expected="1 or more",
                remedy="connect another clip",
            )
        self._groups = (self._count - 1) // self._encoder.stride
        self.used = self._groups * self._encoder.stride + 1
        """Frames that are encoded."""
        self.dropped = self._count - self.used
        """Frames at the beginning that are not."""

    @property
    def note(self) -> str:
        """What an artist should know about frames that are left out."""
        if not self.dropped:
            return ""
        return (
            f"uses the last {self.used} of {self._count} frames, since the VAE takes "
            f"{self._encoder.stride} frames at a time and 1 at the start"
        )

    def encode(self, width: int, height: int) -> Tensor:
        """Encode the newest frames, scaled to a size.

        Args:
            width: Width of the frames; 0 follows from the height, or keeps the clip's.
            height: Height of the frames; 0 follows from the width, or keeps the clip's.

        Returns:
            (1, C, T, H, W), in VAE space.
        """
        vae = self._vae
        bar = comfy.utils.ProgressBar(self.used)
        frames = islice(self._clip.frames(), self.dropped, None)
        for index, frame in enumerate(frames):
            comfy.model_management.throw_exception_if_processing_interrupted()
            pixels = _prepare(vae, frame, width, height)
            if index == 0:
                self._load(pixels)
            self._encoder.add(pixels.to(vae.device))
            bar.update(1)
        latents: Tensor = self._encoder.finish().to(vae.output_device, vae.vae_output_dtype())
        return latents

    def _load(self, pixels: Tensor) -> None:
        """Load the VAE with room for the frames that it encodes together."""
        vae = self._vae
        together = min(self.used, 1 + self._encoder.stride)
        shape = (*pixels.shape[:2], together, *pixels.shape[3:])
        memory = vae.memory_used_encode(shape, vae.vae_dtype)
        comfy.model_management.load_models_gpu(
            [vae.patcher], memory_required=memory, force_full_load=vae.disable_offload
        )


def _prepare(vae: VAE, frame: Tensor, width: int, height: int) -> Tensor:
    """Scale a frame and bring it into the VAE's range, (1, C, 1, H, W)."""
    frame = scaled(frame, *target_size((frame.shape[2], frame.shape[1]), width, height))
    frame = vae.vae_encode_crop_pixels(frame)
    prepared: Tensor = vae.process_input(frame.movedim(-1, 1)[:, :, None]).to(vae.vae_dtype)
    return prepared


def scaled(frame: Tensor, width: int, height: int) -> Tensor:
    """Scale a frame, (1, H, W, channels), to fill a size, and crop it in the centre."""
    if (width, height) == (frame.shape[2], frame.shape[1]):
        return frame
    pixels = frame[..., :3].movedim(-1, 1)
    filled: Tensor = comfy.utils.common_upscale(pixels, width, height, "lanczos", "center")
    return filled.movedim(1, -1)


def target_size(given: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return width and height; one that is 0 follows from the other."""
    if not width and not height:
        return given
    return (
        width or max(1, round(given[0] * height / given[1])),
        height or max(1, round(given[1] * width / given[0])),
    )
