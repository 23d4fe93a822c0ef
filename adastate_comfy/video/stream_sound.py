"""The sound of a stream or of a latent, decoded part by part beside its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...adastate_core.vae.sound import SoundVae
from .sound_decoders import SoundDecoder, open_sound_decoder

PART_LATENTS = 200
"""Sound latents that are decoded at a time, at most: 5 seconds of MiniMax H3, 8 of LTX-2."""


@dataclass(frozen=True, slots=True)
class SoundPart:
    """The sound of one chunk, or of given frames.

    Args:
        number: The chunk, as in the parts of the video.
        latents: Sound latents, (B, C, T, R); None where the video is silent.
        length: Sound latents that it lasts where it is silent.
    """

    number: int
    latents: Tensor | None
    length: int


class SoundReader:
    """The sound of some chunks, as it is in the sound of the whole video.

    Args:
        vae: The VAE of sound.
        parts: The sound of the video, in order, silent parts included.
        wanted: Numbers of the parts that are heard.

    Raises:
        UnsupportedFamilyError: If the VAE is not that of these latents.
    """

    def __init__(self, vae: Any, parts: Sequence[SoundPart], wanted: set[int]) -> None:
        self._vae, self._parts, self._wanted = vae, list(parts), wanted
        self._heard = [p for p in parts if p.latents is not None and p.number in wanted]
        latents = [part.latents for part in parts if part.latents is not None]
        self._shape = tuple(latents[0].shape) if latents else ()
        self._decoder: SoundDecoder | None = self._open() if latents else None
        if self._decoder is None:
            SoundVae.of(getattr(vae, "first_stage_model", None))
        self.notes: list[str] = []

    @property
    def is_silent(self) -> bool:
        """Whether nothing that is wanted can be heard."""
        return not self._heard

    def read(self) -> dict[str, Any]:
        """Decode it.

        Returns:
            What ComfyUI's AUDIO sockets carry: raw samples, at the rate of the VAE.
        """
        assert self._decoder is not None
        rate = self._decoder.sample_rate
        sound = []
        for silent, run in groupby(self._parts, lambda part: part.latents is None):
            parts = list(run)
            if any(part.number in self._wanted for part in parts):
                sound.append(self._silence(parts) if silent else self._run(parts))
        self.notes = [self._decoder.note] if self._decoder.note else []
        return {"waveform": torch.cat(sound, dim=2), "sample_rate": rate}

    def _open(self) -> SoundDecoder:
        batch, channels, _, rows = self._shape
        return open_sound_decoder(self._vae, (batch, channels, PART_LATENTS, rows))

    def _run(self, parts: list[SoundPart]) -> Tensor:
        """Decode what is wanted of parts that follow on each other, none of them silent."""
        self._decoder = decoder = self._open()
        decoder.load()
        latents = [part.latents for part in parts if part.latents is not None]
        ends = torch.tensor([each.shape[2] for each in latents]).cumsum(0).tolist()
        wanted = [index for index, part in enumerate(parts) if part.number in self._wanted]
        first = ends[wanted[0]] - latents[wanted[0]].shape[2]
        end = ends[wanted[-1]]
        begin = max(0, first - decoder.look_back)
        whole = torch.cat(latents, dim=2)[:, :, begin : end + decoder.held_back]
        low, high = decoder.samples_of(first - begin), decoder.samples_of(end - begin)
        made = []
        for part in whole.split(PART_LATENTS, dim=2):
            comfy.model_management.throw_exception_if_processing_interrupted()
            made.append(decoder.decode(part))
        return torch.cat((*made, decoder.flush()), dim=2)[:, :, low:high]

    def _silence(self, parts: list[SoundPart]) -> Tensor:
        decoder = self._decoder
        assert decoder is not None
        latents = sum(part.length for part in parts if part.number in self._wanted)
        # The sound after it begins anew, with what the first latent of a video makes.
        samples = decoder.samples_of(latents + 1) - decoder.samples_of(1)
        return torch.zeros(
            (self._shape[0], decoder.channels, samples), device=self._vae.output_device
        )
