"""Images of a video that is decoded part by part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...adastate_core.errors import UnsupportedFamilyError
from ...adastate_core.vae.base import CAUSAL_LOOK_BACK
from ...adastate_core.vae.detect import sound_vae_kind, vae_kind
from ...adastate_core.vae.overlap import OverlapDecoder
from ...adastate_core.vae.registry import stream_decoder
from ..devices import private_rng
from .device_copies import copied_later
from .part_decoder import Later, PartDecoder

LaterImages = Later
"""Images that a device may still be making: a function that waits for them, called once."""

LOOK_BACK = CAUSAL_LOOK_BACK
"""Latent frames after which any decoder gives the same as if it had seen all of a video."""


AHEAD = 4
"""Latent frames that are decoded after a part, if the decoder of a VAE also uses those."""


class ChunkDecoder(PartDecoder):
    """A decoder of one video, part after part; the parts in order make the video.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, H, W), T the latent frames of the largest part.
    """

    def frames_of(self, latents: int) -> int:
        """Return how many images the first latent frames of a video make, if it goes on."""
        raise NotImplementedError

    @property
    def look_back(self) -> int:
        """Latent frames after which it gives the same as if it had seen all of a video."""
        return LOOK_BACK

    def may_begin(self, at: int, first: int) -> bool:
        """Say whether images from a latent frame on are the same if decoding begins elsewhere.

        Args:
            at: The latent frame at which it would begin.
            first: The latent frame from which on images are wanted.
        """
        return at == 0

    def decode(self, samples: Tensor) -> Tensor:
        """Decode the next part; never a part twice.

        Args:
            samples: (B, C, T, H, W), in VAE space.

        Returns:
            (B, frames, height, width, 3) on the VAE's output device, in the dtype of VAE Decode:
            the images that are known now and were not returned before. A decoder that holds
            latents back returns some of a part later, and may return none now.
        """
        return self.decode_later(samples)()

    def flush(self) -> Tensor:
        """Return the images that were held back, maybe none; a part after it begins a video."""
        return self.flush_later()()

    def decode_alone(self, samples: Tensor) -> Tensor:
        """Decode samples as a video of their own; the video of this decoder goes on as if not."""
        return self.decode_alone_later(samples)()

    def decode_later(self, samples: Tensor) -> LaterImages:
        """Begin `decode`; what is returned waits for the images, in any thread."""
        raise NotImplementedError

    def flush_later(self) -> LaterImages:
        """Begin `flush`; what is returned waits for the images, in any thread."""
        return self._none

    def decode_alone_later(self, samples: Tensor) -> LaterImages:
        """Begin `decode_alone`; what is returned waits for the images, in any thread."""
        raise NotImplementedError

    def _none(self) -> Tensor:
        """Return no images."""
        vae, side = self._vae, self._vae.spacial_compression_decode()
        height, width = (edge * side for edge in self._shape[-2:])
        shape = (self._shape[0], 0, height, width, 3)
        return torch.zeros(shape, dtype=vae.vae_output_dtype(), device=vae.output_device)


class _CausalDecoder(ChunkDecoder):
    """A VAE whose decoder keeps the features of earlier frames."""

    exact = True

    def __init__(self, vae: Any, latent_shape: tuple[int, ...]) -> None:
        super().__init__(vae, latent_shape)
        self._decoder = stream_decoder(vae.first_stage_model)

    @property
    def held_back(self) -> int:
        return self._decoder.held_back

    @property
    def stays_loaded(self) -> bool:
        return self._stays_ready()

    @property
    def can_run_in_background(self) -> bool:
        return self._runs_in_background()

    def _memory(self) -> int:
        # A decoder that holds latents back decodes them with the next part.
        batch, channels, frames, *size = self._shape
        shape = (batch, channels, frames + self.held_back, *size)
        memory: int = self._vae.memory_used_decode(shape, self._vae.vae_dtype)
        return memory

    def placed(self, samples: Tensor) -> Tensor:
        return samples.to(self._vae.device, self._vae.vae_dtype)

    @property
    def look_back(self) -> int:
        return self._decoder.look_back

    def frames_of(self, latents: int) -> int:
        return self._decoder.frames_of(latents)

    def may_begin(self, at: int, first: int) -> bool:
        return self._decoder.may_begin(at, first)

    def decode_later(self, samples: Tensor) -> LaterImages:
        # Inference mode is a thread's own.
        with torch.inference_mode():
            return self._images(self._decoder.decode(self.placed(samples)))

    def flush_later(self) -> LaterImages:
        with torch.inference_mode():
            frames = self._decoder.flush()
            self._decoder = stream_decoder(self._vae.first_stage_model)
            return self._none if frames is None else self._images(frames)

    def decode_alone_later(self, samples: Tensor) -> LaterImages:
        decoder = stream_decoder(self._vae.first_stage_model)
        with torch.inference_mode():
            frames = decoder.decode(self.placed(samples))
            rest = decoder.flush()
            return self._images(frames if rest is None else torch.cat((frames, rest), dim=2))

    def _images(self, frames: Tensor) -> LaterImages:
        """Begin to make images of what the decoder gives."""
        vae = self._vae
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
        looks_ahead = getattr(getattr(vae.first_stage_model, "decoder", None), "causal", True)
        ahead = AHEAD if looks_ahead is False else 0
        self._decoder = OverlapDecoder(self.decode_alone, _time_stride(vae), ahead=ahead)

    @property
    def held_back(self) -> int:
        return self._decoder.ahead

    @property
    def note(self) -> str:
        overlap, difference = self._decoder.overlap, self._decoder.difference
        after = f" before and {self.held_back} after" if self.held_back else ""
        text = f"parts are joined by an overlap of {overlap} latent frames{after}"
        if difference is None:
            return f"{text}; the video is too short to measure how well they fit"
        return f"{text}; twice as many would change the images by at most {difference:.3f}"

    def frames_of(self, latents: int) -> int:
        return self._decoder.count_of(latents)

    def decode_later(self, samples: Tensor) -> LaterImages:
        images = self._decoder.decode(samples)
        return self._none if images is None else lambda: images

    def flush_later(self) -> LaterImages:
        images = self._decoder.flush()
        return self._none if images is None else lambda: images

    def decode_alone(self, samples: Tensor) -> Tensor:
        # Some decoders add noise of the global generators; every part gets the same.
        with private_rng(self.patcher.load_device, seed=0), torch.inference_mode():
            images: Tensor = self._vae.decode(samples)
        return images

    def decode_alone_later(self, samples: Tensor) -> LaterImages:
        images = self.decode_alone(samples)
        return lambda: images


def open_decoder(vae: Any, latent_shape: tuple[int, ...]) -> ChunkDecoder:
    """Return a decoder for a video of its own.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, H, W), T the latent frames of the largest part.

    Raises:
        UnsupportedFamilyError: If the VAE cannot decode a video in parts, or not these latents.
    """
    if sound_vae_kind(vae.first_stage_model) is not None:
        name = type(vae.first_stage_model).__name__
        raise UnsupportedFamilyError(
            "vae",
            problem=f"the VAE at vae makes sound and no pictures ({name})",
            seen=name,
            expected="the VAE of a video model",
            remedy="connect it at audio_vae, and the video VAE of the model at vae",
        )
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
    if any(vae.upscale_ratio[0](n) != 1 + (n - 1) * stride for n in range(1, 12)):
        raise UnsupportedFamilyError(
            "vae",
            problem=f"{name} makes different numbers of pictures from one frame to the next",
            seen=f"{name}, whose latent frames make different numbers of images",
            expected=f"one for the first and {stride} for each other one",
            remedy="decode the whole stream at once with VAE Decode",
        )
    return int(stride)
