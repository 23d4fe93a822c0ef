"""The sound of a stream, decoded part by part and raw: no part is made louder or quieter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...adastate_core.errors import UnsupportedFamilyError
from ...adastate_core.vae.sound import SoundVae
from .device_copies import copied_later
from .part_decoder import Later, PartDecoder

_INAUDIBLE = 1e-4
"""A difference of a sample, of 1 at full volume, that is not told: 80 dB below it."""


class SoundDecoder(PartDecoder):
    """A decoder of the sound of one video, part after part; the parts in order make the sound.

    Args:
        vae: The VAE.
        sound: What is known of it.
        batch: Sounds that are decoded at a time.
        latents: Sound latents of the largest part.
    """

    def __init__(self, vae: Any, sound: SoundVae, batch: int, latents: int) -> None:
        window = latents + sound.overlap + sound.ahead
        super().__init__(vae, sound.host_shape(batch, window))
        self._sound, self._decoder, self._batch = sound, sound.open(), batch

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self._sound.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the sound."""
        channels: int = self._vae.output_channels
        return channels

    @property
    def held_back(self) -> int:
        """Sound latents that are left for later after a part, at most."""
        return self._decoder.ahead

    @property
    def look_back(self) -> int:
        """Latents before a part after which it sounds as if all before had been decoded."""
        return self._decoder.overlap

    @property
    def note(self) -> str:
        """What an artist should know about the joins; complete after the last part."""
        difference = self._decoder.difference
        if difference is None or difference < _INAUDIBLE:
            return ""
        return (
            f"parts of the sound are joined by an overlap of {self.look_back} latents before and "
            f"{self.held_back} after; twice as many would change it by at most {difference:.4f} "
            "of full volume"
        )

    @property
    def stays_loaded(self) -> bool:
        """Whether a part can be decoded now without a call of model management."""
        return self._stays_ready()

    @property
    def can_run_in_background(self) -> bool:
        """Whether another thread may decode; known after `load` only."""
        return self._runs_in_background()

    def samples_of(self, latents: int) -> int:
        """Return how many samples the first latents of a sound make."""
        return self._decoder.count_of(latents)

    def placed(self, samples: Tensor) -> Tensor:
        """Return sound latents where they are decoded."""
        return samples.to(self._vae.device, self._vae.vae_dtype)

    def decode(self, samples: Tensor) -> Tensor:
        """Decode the next part; never a part twice.

        Args:
            samples: Sound latents as a stream keeps them, (B, C, T, R).

        Returns:
            (B, channels, samples) on the VAE's output device: the sound that is known now and was
            not returned before, maybe none.
        """
        return self.decode_later(samples)()

    def flush(self) -> Tensor:
        """Return the sound that was held back, maybe none; a part after it begins anew."""
        return self.flush_later()()

    def decode_later(self, samples: Tensor) -> Later:
        """Begin `decode`; what is returned waits for the sound, in any thread."""
        # Inference mode is a thread's own.
        with torch.inference_mode():
            return self._made(self._decoder.decode(self.placed(samples)))

    def flush_later(self) -> Later:
        """Begin `flush`; what is returned waits for the sound, in any thread."""
        with torch.inference_mode():
            return self._made(self._decoder.flush())

    def _made(self, sound: Tensor | None) -> Later:
        vae = self._vae
        if sound is None:
            shape = (self._batch, self.channels, 0)
            return lambda: torch.zeros(shape, device=vae.output_device)
        # In single precision whatever ComfyUI uses between nodes: sound has no other.
        return copied_later(sound, vae.output_device, torch.float32)


def open_sound_decoder(vae: Any, latent_shape: tuple[int, ...]) -> SoundDecoder:
    """Return a decoder for a sound of its own.

    Args:
        vae: The VAE.
        latent_shape: (B, C, T, R), T the sound latents of the largest part.

    Raises:
        UnsupportedFamilyError: If it is no VAE of sound that is known, or not that of these
            latents.
    """
    sound = SoundVae.of(getattr(vae, "first_stage_model", None))
    batch, channels, latents, rows = latent_shape
    if (sound.channels, sound.rows) != (channels, rows):
        raise UnsupportedFamilyError(
            "audio_vae",
            problem=(
                f"the VAE at audio_vae belongs to another model: it is for sound of "
                f"{sound.channels} channels in {sound.rows} rows, and this is of {channels} in "
                f"{rows}"
            ),
            seen=f"{sound.channels} channels and {sound.rows} rows",
            expected=f"{channels} channels and {rows} rows",
            remedy="connect the audio VAE that belongs to the model",
        )
    return SoundDecoder(vae, sound, batch, latents)
