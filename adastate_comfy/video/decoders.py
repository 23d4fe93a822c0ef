"""Images of a video that is decoded part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.errors import UnsupportedFamilyError
from ...adastate_core.vae.base import StreamDecoder
from ...adastate_core.vae.detect import vae_kind
from ...adastate_core.vae.overlap import OverlapDecoder
from ...adastate_core.vae.registry import stream_decoder
from ..devices import private_rng
from .device_copies import copied_later

LaterImages = Callable[[], Tensor]
"""Images that a device may still be making: a function that waits for them, called once."""

LOOK_BACK = 39
"""Latent frames after which a decoder gives the same as if it had seen all of a video.

Those of Wan need most: 38 frames, by their layers and as measured with random weights.
"""


class ChunkDecoder:
    """A decoder of one video, part after part; the parts in order make the video.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, H, W), T the latent frames of the largest part.
    """

    exact = False
    """Whether the parts are those of the video decoded in one go."""

    def __init__(self, vae: Any, latent_shape: tuple[int, ...]) -> None:
        self._vae, self._shape = vae, latent_shape
        self.loads = 0
        """How often the VAE had to be brought to its device."""
        self._held = 0.0

    @property
    def patcher(self) -> ModelPatcher:
        """The VAE as ComfyUI's memory management knows it."""
        patcher: ModelPatcher = self._vae.patcher
        return patcher

    @property
    def note(self) -> str:
        """What an artist should know about the joins; complete after the last part."""
        return ""

    @property
    def can_run_in_background(self) -> bool:
        """Whether `decode` calls no model management, so that another thread may run it.

        Known after `load` only.
        """
        return False

    @property
    def stays_loaded(self) -> bool:
        """Whether a part can be decoded now without a call of model management."""
        return False

    def load(self) -> None:
        """Load the VAE if it is not there with room to decode; in the main thread."""
        if self._is_ready():
            self._held = self.patcher.loaded_size()
            return
        self.loads += 1
        self._held = 0.0
        comfy.model_management.load_models_gpu(
            [self.patcher],
            memory_required=self._memory(),
            force_full_load=self._vae.disable_offload,
        )

    def _is_loaded(self) -> bool:
        """Say whether all weights are where they are used.

        Under Dynamic VRAM they come when they are first used, those of the encoder never, and may
        be sent away; then there are fewer than before. Asking ComfyUI to load the VAE puts it
        before others in a fight for room.
        """
        patcher = self.patcher
        loaded = comfy.model_management.loaded_models()
        if not any(patcher.is_clone(other) for other in loaded):
            return False
        if patcher.is_dynamic():
            return bool(patcher.loaded_size() >= self._held)
        return not patcher.model.model_lowvram and patcher.loaded_size() > 0

    def _memory(self) -> int:
        memory: int = self._vae.memory_used_decode(self._shape, self._vae.vae_dtype)
        return memory

    def _is_ready(self) -> bool:
        """Say whether it is loaded and has room to decode."""
        patcher = self.patcher
        if not self._is_loaded():
            return False
        wanted = self._memory() + comfy.model_management.extra_reserved_memory()
        return bool(patcher.get_free_memory(patcher.load_device) >= wanted)

    @property
    def device(self) -> torch.device:
        """Where it decodes."""
        device: torch.device = self._vae.device
        return device

    def weights(self) -> Iterator[Tensor]:
        """Yield the weights of the VAE as they lie now."""
        module = self._vae.first_stage_model
        yield from module.parameters()
        yield from module.buffers()

    def placed(self, samples: Tensor) -> Tensor:
        """Return samples where they are decoded; before, so that nothing waits for it later."""
        return samples

    def decode(self, samples: Tensor) -> Tensor:
        """Decode the next part; never a part twice.

        Args:
            samples: (B, C, T, H, W), in VAE space.

        Returns:
            (B, frames, height, width, 3) on the VAE's output device, in the dtype of VAE Decode.
        """
        raise NotImplementedError

    def decode_alone(self, samples: Tensor) -> Tensor:
        """Decode samples as a video of their own; the video of this decoder goes on as if not."""
        raise NotImplementedError

    def decode_later(self, samples: Tensor) -> LaterImages:
        """Begin `decode`; what is returned waits for the images, in any thread."""
        images = self.decode(samples)
        return lambda: images

    def decode_alone_later(self, samples: Tensor) -> LaterImages:
        """Begin `decode_alone`; what is returned waits for the images, in any thread."""
        images = self.decode_alone(samples)
        return lambda: images


class _CausalDecoder(ChunkDecoder):
    """A VAE whose decoder keeps the features of earlier frames."""

    exact = True

    def __init__(self, vae: Any, latent_shape: tuple[int, ...]) -> None:
        super().__init__(vae, latent_shape)
        self._decoder = stream_decoder(vae.first_stage_model)

    @property
    def stays_loaded(self) -> bool:
        # Under Dynamic VRAM its weights may have gone by the time they are used.
        return not self.patcher.is_dynamic() and self._is_ready()

    @property
    def can_run_in_background(self) -> bool:
        # Weights that are not all on the device are brought there layer by layer, over streams
        # and buffers that all models share.
        modules = self._vae.first_stage_model.modules()
        casts = any(getattr(module, "comfy_cast_weights", False) for module in modules)
        return not (casts or self.patcher.is_dynamic())

    def placed(self, samples: Tensor) -> Tensor:
        return samples.to(self._vae.device, self._vae.vae_dtype)

    def decode(self, samples: Tensor) -> Tensor:
        return self.decode_later(samples)()

    def decode_alone(self, samples: Tensor) -> Tensor:
        return self.decode_alone_later(samples)()

    def decode_later(self, samples: Tensor) -> LaterImages:
        return self._images(self._decoder, samples)

    def decode_alone_later(self, samples: Tensor) -> LaterImages:
        return self._images(stream_decoder(self._vae.first_stage_model), samples)

    def _images(self, decoder: StreamDecoder, samples: Tensor) -> LaterImages:
        vae = self._vae
        # Inference mode is a thread's own.
        with torch.inference_mode():
            frames = decoder.decode(self.placed(samples))
            copy = copied_later(frames, vae.output_device, vae.vae_output_dtype())

        def images() -> Tensor:
            with torch.inference_mode():
                made: Tensor = vae.process_output(copy()).movedim(1, -1)
            return made

        return images


class _OverlapDecoder(ChunkDecoder):
    """A VAE that knows nothing of earlier calls."""

    def __init__(self, vae: Any, latent_shape: tuple[int, ...]) -> None:
        super().__init__(vae, latent_shape)
        self._decoder = OverlapDecoder(self.decode_alone, _time_stride(vae))

    @property
    def note(self) -> str:
        overlap, difference = self._decoder.overlap, self._decoder.difference
        text = f"parts are joined by an overlap of {overlap} latent frames"
        if difference is None:
            return f"{text}; the video is too short to measure how well they fit"
        return f"{text}; twice as many would change the images by at most {difference:.3f}"

    def decode(self, samples: Tensor) -> Tensor:
        return self._decoder.decode(samples)

    def decode_alone(self, samples: Tensor) -> Tensor:
        # Some decoders add noise of the global generators; every part gets the same.
        with private_rng(self.patcher.load_device, seed=0), torch.inference_mode():
            images: Tensor = self._vae.decode(samples)
        return images


def open_decoder(vae: Any, latent_shape: tuple[int, ...]) -> ChunkDecoder:
    """Return a decoder for a video of its own.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, H, W), T the latent frames of the largest part.

    Raises:
        UnsupportedFamilyError: If the VAE cannot decode a video in parts, or not these latents.
    """
    channels = getattr(vae, "latent_channels", latent_shape[1])
    if channels != latent_shape[1]:
        raise UnsupportedFamilyError(
            "vae",
            problem=(
                f"this VAE belongs to another model: it has {channels} channels, the stream has "
                f"{latent_shape[1]}"
            ),
            seen=f"one for {channels} channels",
            expected=f"one for the {latent_shape[1]} channels of these latents",
            remedy="connect the VAE that belongs to the model",
        )
    if vae_kind(vae.first_stage_model) is not None:
        return _CausalDecoder(vae, latent_shape)
    return _OverlapDecoder(vae, latent_shape)


def _time_stride(vae: Any) -> int:
    """Return how many images a latent frame makes.

    Raises:
        UnsupportedFamilyError: If the VAE is not of videos, or its parts do not fit together.
    """
    name = type(vae.first_stage_model).__name__
    video = getattr(vae, "latent_dim", 2) == 3 and not getattr(vae, "not_video", False)
    stride = vae.temporal_compression_decode() if video else None
    if not stride:
        raise UnsupportedFamilyError(
            "vae",
            problem=f"{name} decodes single pictures, not video",
            seen=f"{name}, which decodes single images",
            expected="the VAE of a video model",
            remedy="connect the VAE that belongs to the model",
        )
    if getattr(getattr(vae.first_stage_model, "decoder", None), "causal", True) is False:
        raise UnsupportedFamilyError(
            "vae",
            problem=f"{name} needs the frames that follow, which a stream does not have yet",
            seen=f"{name}, whose decoder also uses the frames that follow",
            expected="a decoder that uses earlier frames only",
            remedy="decode the whole stream at once with VAE Decode",
        )
    if any(vae.upscale_ratio[0](n) != 1 + (n - 1) * stride for n in range(1, 12)):
        raise UnsupportedFamilyError(
            "vae",
            problem=f"{name} makes different numbers of pictures from one frame to the next",
            seen=f"{name}, whose latent frames make different numbers of images",
            expected=f"one for the first and {stride} for each other one",
            remedy="decode the whole stream at once with VAE Decode",
        )
    return int(stride)
