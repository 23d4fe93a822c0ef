"""The sound of a render: decoded beside the pictures, and put where it belongs in time.

Sound latents belong to the latent frame during which they begin, counted from the beginning of the
stream. All times are whole numbers of samples, worked out anew for every chunk: nothing adds up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from ...adastate_core.clock import StreamClock
from .part_decoder import Later
from .sound_decoders import SoundDecoder
from .sound_track import PIECE, RUN_UP, backwards, sample_at
from .video_file import VideoFile

_FADE_SECONDS = 0.01
"""How long a video goes on as the one before it ended, where that is not what follows."""


class RenderSound:
    """The sound of one video.

    `begin`, `decode_later` and `flush_later` are called in the order of the stream, and what they
    return in the same order, by the thread that writes.

    Args:
        decoder: Its decoder.
        alike: Returns another decoder like it.
        clock: Which sound belongs to which latent frame of the stream.
        video: The file, which has sound.
        frames_of: Returns how many pictures the first latent frames of a stream make.
    """

    def __init__(
        self,
        decoder: SoundDecoder,
        alike: Callable[[], SoundDecoder],
        clock: StreamClock,
        video: VideoFile,
        frames_of: Callable[[int], int],
    ) -> None:
        self.decoder = decoder
        self._alike, self._clock, self._frames_of = alike, clock, frames_of
        assert video.sound is not None
        self._video, self._form = video, video.sound
        self._stride = decoder.samples_of(2) - decoder.samples_of(1)
        self._given = self._shifted = 0
        # Where, in samples that are decoded, how many are put in, or left out if negative.
        self._shifts: deque[tuple[int, int]] = deque()
        self._passed = self._leaving = 0
        self._before: Tensor | None = None
        self._begun = False
        self._ended_with: Later | None = None
        self._ended_at = 0
        self._fading: Tensor | None = None

    @property
    def look_back(self) -> int:
        """Latents before a video with which its sound is as if it had gone on."""
        return sound_before(self.decoder)

    def begin(self, sounds: Sequence[Tensor], frame: int) -> Later:
        """Decode the newest sound latents before the first chunk.

        Args:
            sounds: Latents of sound without a gap, (1, C, T, R) in VAE space; may be none.
            frame: The latent frame at which they end.

        Returns:
            What waits for as much of it as is in the video, (channels, samples).
        """
        count = sum(latents.shape[2] for latents in sounds)
        at = self._clock.first_tick(frame) - count
        self._shift(0, at * self._stride - sample_at(self._form.begins, *self._rates()))
        if not sounds:
            return self._silent
        latents = torch.cat(list(sounds), dim=2)
        self._given = count
        if self._shifted < 0:
            self._ended_at = -self._shifted
            other = self._alike()
            parts = (other.decode_later(latents), other.flush_later())
            self._ended_with = lambda: torch.cat([part()[0] for part in parts], dim=1)
        made = self.decoder.decode_later(latents)
        return lambda: self._placed(made()[0])

    def decode_later(self, latents: Tensor, frame: int, shown: int) -> Later:
        """Begin to decode the sound of a chunk.

        Args:
            latents: (1, C, T, R), in VAE space.
            frame: The latent frame of the stream at which the chunk begins.
            shown: Pictures of the video before it.

        Returns:
            What waits for the sound that follows in the video, (channels, samples), maybe none.
        """
        if self._given:
            ticks, rates = self._clock.first_tick(frame), self._rates()
            late = self.decoder.samples_of(ticks) - sample_at(self._frames_of(frame), *rates)
            missing = self._video.samples(shown) + late - self._end()
            # A stream that begins anew has its latents begin anew as well.
            if 2 * abs(missing) > self._stride:
                self._shift(self.decoder.samples_of(self._given), missing)
        self._given += latents.shape[2]
        made = self.decoder.decode_later(latents)
        return lambda: self._placed(made()[0])

    def flush_later(self) -> Later:
        """Begin to decode what was held back; the sound ends there."""
        made = self.decoder.flush_later()
        return lambda: self._placed(made()[0])

    def _rates(self) -> tuple[int, Fraction]:
        return self._form.rate, self._video.rate

    def _end(self) -> int:
        """Return the sample of the video at which all sound that was given ends."""
        return self.decoder.samples_of(self._given) + self._shifted

    def _shift(self, at: int, samples: int) -> None:
        if samples:
            self._shifts.append((at, samples))
            self._shifted += samples

    def _silent(self) -> Tensor:
        return self._placed(torch.zeros(self._form.channels, 0))

    def _placed(self, sound: Tensor) -> Tensor:
        """Return what of the sound that follows is in the video, and the silence in its gaps."""
        placed = []
        while self._shifts and self._shifts[0][0] <= self._passed + sound.shape[1]:
            at, samples = self._shifts.popleft()
            count = at - self._passed
            placed.append(self._kept(sound[:, :count]))
            sound = sound[:, count:]
            self._leaving += max(0, -samples)
            placed.append(sound.new_zeros(sound.shape[0], max(0, samples)))
        placed.append(self._kept(sound))
        whole = torch.cat(placed, dim=1)
        return self._joined(whole) if whole.shape[1] else whole

    def _kept(self, sound: Tensor) -> Tensor:
        """Leave out what has to be; the encoder hears what is left out in front of the video."""
        self._passed += sound.shape[1]
        count = min(self._leaving, sound.shape[1])
        self._leaving -= count
        if count and not self._begun:
            left = sound[:, :count]
            known = left if self._before is None else torch.cat((self._before, left), dim=1)
            self._before = known[:, -RUN_UP * PIECE :]
        return sound[:, count:]

    def _joined(self, sound: Tensor) -> Tensor:
        """Let the sound go on from that of the video before.

        That one ended without knowing what follows, so its end is not quite what leads to this
        sound. By how much is played once more, backwards, and fades.
        """
        if not self._begun:
            self._begun = True
            if self._before is not None:
                self._video.run_up(self._before)
                self._fading = self._seam(self._before)
            self._before = self._ended_with = None
        if self._fading is None:
            return sound
        count = min(self._fading.shape[1], sound.shape[1])
        first = sound[:, :count] + self._fading[:, :count]
        self._fading = self._fading[:, count:] if count < self._fading.shape[1] else None
        return torch.cat((first, sound[:, count:]), dim=1)

    def _seam(self, before: Tensor) -> Tensor | None:
        """Return what is added to the first samples, or None."""
        if self._ended_with is None:
            return None
        count = min(round(_FADE_SECONDS * self._form.rate), before.shape[1])
        ended = self._ended_with()
        ended = (
            torch.cat((ended, backwards(ended, self._ended_at - ended.shape[1])), dim=1)
            if (ended.shape[1] < self._ended_at)
            else ended
        )
        ended = ended[:, self._ended_at - count : self._ended_at]
        if ended.shape[1] < count:
            return None
        fade = torch.linspace(1.0, 0.0, count + 1)[:-1]
        return (ended - before[:, -count:]).flip(1) * fade


def sound_before(decoder: SoundDecoder) -> int:
    """Return how many latents before a video its sound has to know to be as if it had gone on."""
    stride = decoder.samples_of(2) - decoder.samples_of(1)
    return decoder.look_back + max(decoder.held_back, RUN_UP * PIECE // stride + 2)
