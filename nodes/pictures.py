"""Pictures of a video that is decoded part by part."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..adastate_core.decoding import StreamDecoder, stream_decoder


class PartDecoder:
    """Decode one video, part after part; the parts in order make the video.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, H, W), T the latent frames of the largest part.
        decoder: Decoder of this video.
    """

    exact = True
    """Whether the parts are those of the video decoded at once."""
    note = ""
    """What an artist should know about the pictures; grows with the parts."""

    def __init__(self, vae: Any, latent_shape: tuple[int, ...], decoder: StreamDecoder) -> None:
        self._vae, self._shape, self._decoder = vae, latent_shape, decoder

    @property
    def patcher(self) -> ModelPatcher:
        """The VAE as ComfyUI's memory management knows it."""
        patcher: ModelPatcher = self._vae.patcher
        return patcher

    @property
    def can_run_apart(self) -> bool:
        """Whether `decode` calls no model management, so that another thread may run it.

        Known after `load` only: weights that are not all on the device are brought there layer by
        layer, over streams and buffers that all models share.
        """
        modules = self._vae.first_stage_model.modules()
        casts = any(getattr(module, "comfy_cast_weights", False) for module in modules)
        return not (casts or self.patcher.is_dynamic())

    def load(self) -> None:
        """Load the VAE; in the main thread, before the first part."""
        memory = self._vae.memory_used_decode(self._shape, self._vae.vae_dtype)
        comfy.model_management.load_models_gpu(
            [self.patcher], memory_required=memory, force_full_load=self._vae.disable_offload
        )

    def decode(self, samples: Tensor) -> Tensor:
        """Decode the next part; never a part twice.

        Args:
            samples: (B, C, T, H, W), in VAE space.

        Returns:
            (B, frames, height, width, 3) on the VAE's output device, in the dtype of VAE Decode.
        """
        vae = self._vae
        # Inference mode is a thread's own.
        with torch.inference_mode():
            frames = self._decoder.decode(samples.to(vae.device, vae.vae_dtype))
            frames = frames.to(vae.output_device, vae.vae_output_dtype(), copy=True)
            pictures: Tensor = vae.process_output(frames).movedim(1, -1)
        return pictures


def open_decoder(vae: Any, latent_shape: tuple[int, ...]) -> PartDecoder:
    """Return a decoder for a video of its own.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, H, W), T the latent frames of the largest part.

    Raises:
        UnsupportedFamilyError: If the VAE cannot decode a video in parts.
    """
    return PartDecoder(vae, latent_shape, stream_decoder(vae.first_stage_model))
