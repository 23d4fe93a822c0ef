"""Sound VAEs of the host: how many samples a latent makes, and how far it is heard.

Sound latents are (B, C, T, R), time on the third axis, for every family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from ..errors import UnsupportedFamilyError
from .detect import sound_vae_kind
from .overlap import OverlapDecoder

_MEL_FRAMES = 4
"""Frames of the spectrogram that a latent of LTX-2 stands for; the first stands for one."""


@dataclass(frozen=True, slots=True)
class SoundVae:
    """What a VAE of sound makes of latents.

    Args:
        vae: The host's VAE module.
        channels: C of its latents.
        rows: R of its latents.
        time_last: Whether it takes them as (B, C, R, T).
        sample_rate: Samples a second.
        stride: Samples of every latent after the first.
        first: Samples of the first one.
        overlap: Latents before a part that are still heard in it.
        ahead: Latents after a part that are heard in it already.
    """

    vae: Any
    channels: int
    rows: int
    time_last: bool
    sample_rate: int
    stride: int
    first: int
    overlap: int
    ahead: int

    @classmethod
    def of(cls, vae: object) -> SoundVae:
        """Describe a VAE of the host.

        Raises:
            UnsupportedFamilyError: If it is none of the kinds of sound that are known.
        """
        kind, module = sound_vae_kind(vae), cast(nn.Module, vae)
        if kind == "minimax_h3" and _has(module, "samples_per_latent", "sample_rate", "decode"):
            return _minimax_h3(module)
        if kind == "ltx_2" and _is_causal(module):
            return _ltx_2(module)
        name = type(vae).__name__
        raise UnsupportedFamilyError(
            "audio_vae",
            problem=f"the VAE at audio_vae is none for sound that is known here ({name})",
            seen=name,
            expected="the audio VAE of MiniMax H3 or LTX-2",
            remedy="connect the audio VAE that belongs to the model there",
        )

    def host_shape(self, batch: int, latents: int) -> tuple[int, ...]:
        """Return the shape of latents as the VAE takes them."""
        shape = (latents, self.rows)
        return (batch, self.channels, *(shape[::-1] if self.time_last else shape))

    def from_host(self, latents: Tensor) -> Tensor:
        """Return the latents of a LATENT socket as a stream keeps them, (B, C, T, R)."""
        return latents.transpose(2, 3) if self.time_last else latents

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents as a sound of their own.

        Args:
            latents: (B, C, T, R), in the VAE's dtype and on its device.

        Returns:
            (B, channels, samples).
        """
        sound: Tensor = self.vae.decode(latents.transpose(2, 3) if self.time_last else latents)
        return sound

    def open(self) -> OverlapDecoder:
        """Return a decoder for a sound of its own, part after part."""
        return OverlapDecoder(
            self.decode,
            self.stride,
            self.overlap,
            self.ahead,
            first=self.first,
            axis=2,
            unit="samples",
        )


def _minimax_h3(module: nn.Module) -> SoundVae:
    vae = cast(Any, module)
    # Its convolutions reach 23 latents back and 25 ahead; beyond 17 the reach is below what
    # single precision resolves.
    samples = int(vae.samples_per_latent)
    return SoundVae(
        vae,
        channels=int(vae.latents_mean.shape[0]),
        rows=2,
        time_last=True,
        sample_rate=int(vae.sample_rate),
        stride=samples,
        first=samples,
        overlap=17,
        ahead=17,
    )


def _ltx_2(module: nn.Module) -> SoundVae:
    vae = cast(Any, module)
    # The decoder of the spectrogram looks back only, and far; the vocoder looks both ways.
    rate = int(vae.output_sample_rate)
    mel_frame = rate * int(vae.mel_hop_length) // int(vae.sample_rate)
    return SoundVae(
        vae,
        channels=int(vae.latent_channels),
        rows=int(vae.latent_frequency_bins),
        time_last=False,
        sample_rate=rate,
        stride=_MEL_FRAMES * mel_frame,
        first=mel_frame,
        overlap=40,
        ahead=6,
    )


def _is_causal(vae: nn.Module) -> bool:
    """Say whether the VAE of LTX-2 has a spectrogram that does not depend on what follows."""
    known = _has(vae, "vocoder", "mel_hop_length", "latent_channels", "latent_frequency_bins")
    return known and bool(getattr(getattr(vae, "autoencoder", None), "is_causal", False))


def _has(module: nn.Module, *names: str) -> bool:
    return all(hasattr(module, name) for name in names)
