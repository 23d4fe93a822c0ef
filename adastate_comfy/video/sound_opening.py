"""What has to be known of the sound of a render before its first chunk."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ...adastate_core.clock import StreamClock
from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.state import StreamState
from .decoders import ChunkDecoder
from .render_history import sound_joins_exactly
from .render_sound import RenderSound, sound_before
from .sound_decoders import SoundDecoder, open_sound_decoder
from .sound_track import SoundFormat
from .video_file import VideoFile

_LONG = 3600
"""Seconds in which sound and pictures come apart by less than one picture."""


@dataclass(frozen=True, slots=True)
class SoundOpening:
    """The sound of a render that is about to begin.

    Args:
        vae: The VAE of the sound.
        shape: (B, C, T, R), T the sound latents of the longest chunk.
        clock: Which sound belongs to which latent frame of the stream.
        decoder: A decoder of it.
        pictures: The decoder of the pictures.
    """

    vae: Any
    shape: tuple[int, ...]
    clock: StreamClock
    decoder: SoundDecoder
    pictures: ChunkDecoder

    @classmethod
    def of(
        cls,
        vae: Any,
        state: StreamState,
        clock: StreamClock,
        chunk_frames: int,
        pictures: ChunkDecoder,
    ) -> SoundOpening:
        """Open it for a stream with sound.

        Raises:
            UnsupportedFamilyError: If the VAE is none of sound, or not that of this sound.
        """
        assert state.sound_shape is not None
        channels, rows = state.sound_shape
        shape = (state.latent_shape[0], channels, clock.most_ticks(chunk_frames), rows)
        return cls(vae, shape, clock, open_sound_decoder(vae, shape), pictures)

    def check_speed(self, fps: float) -> None:
        """Refuse a speed at which pictures would come apart from their sound.

        Raises:
            ConfigError: If the video has another one than the stream.
        """
        frames = self.pictures.frames_of
        pattern = self.clock.pattern
        pictures = frames(2 * pattern) - frames(pattern)
        stride = self.decoder.samples_of(2) - self.decoder.samples_of(1)
        seconds = self.clock.period * stride / self.decoder.sample_rate
        made = Fraction(pictures) / seconds
        if abs(made - Fraction(fps)) * _LONG < 1:
            return
        raise ConfigError(
            "fps",
            problem=(
                f"the sound of this stream goes with {float(made):g} frames a second, and fps is "
                f"{fps:g}"
            ),
            seen=fps,
            expected=f"{float(made):g}, or no sound",
            remedy=f"set fps to {float(made):g} on Render Stream to Video",
        )

    def form(self, state: StreamState, include_start: bool) -> SoundFormat:
        """Return what the sound of a video is that continues a stream."""
        begins = state.chunk_index == 0 and include_start
        before = 0 if begins else self.pictures.frames_of(state.next_frame)
        return SoundFormat(self.decoder.sample_rate, self.decoder.channels, before)

    def joins(self, state: StreamState) -> bool:
        """Say whether a video that continues a stream sounds as if it had never ended."""
        return sound_joins_exactly(state, sound_before(self.decoder))

    def open(self, video: VideoFile) -> RenderSound:
        """Return the sound of a file."""
        return RenderSound(
            self.decoder,
            lambda: open_sound_decoder(self.vae, self.shape),
            self.clock,
            video,
            self.pictures.frames_of,
        )
