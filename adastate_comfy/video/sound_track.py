"""The sound of a video file: encoded as it comes, and written as far as the pictures are.

AAC knows pieces of 1024 samples, each of which also holds half of the one before. So the first
piece of a file is played by nobody: it only makes the next one whole, and the file says that it is
to be skipped. Times are whole numbers of samples, counted from the beginning.
"""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import av
import torch
from av.error import FFmpegError
from torch import Tensor

from ...adastate_core.errors import VideoFileError

PIECE = 1024
"""Samples of a piece, as AAC has it."""
RUN_UP = 8
"""Pieces of earlier sound that an encoder hears before the first one that is written."""
_BITS = 128_000
"""Bits a second of one channel."""
_GAP = 0.06
"""Seconds that may be missing at the end, where the latent of sound there is not made yet."""
_LAYOUTS = {1: "mono", 2: "stereo"}
_GLOBAL_HEADER = 1 << 22


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """What the sound of a video is.

    Args:
        rate: Samples a second.
        channels: 1 or 2.
        begins: Pictures of the stream before the video. Where the sound of a picture begins is
            rounded to a sample from the beginning of the stream, so that no video of it leaves a
            sample out or has one twice.
    """

    rate: int
    channels: int
    begins: int = 0

    def samples(self, frames: int, fps: Fraction) -> int:
        """Return the samples that go with the first pictures of the video."""
        return sample_at(self.begins + frames, self.rate, fps) - sample_at(
            self.begins, self.rate, fps
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """An encoded piece of sound.

    Args:
        begin: Where it begins in the track, in which one piece comes before the sound.
        length: How many of its samples are in the track.
        data: The packet.
    """

    begin: int
    length: int
    data: bytes


class SoundTrack:
    """An encoder of sound and what waits to be written.

    Args:
        form: What the sound is.

    Raises:
        VideoFileError: If such sound cannot be encoded.
    """

    def __init__(self, form: SoundFormat) -> None:
        self.form = form
        self.length = 0
        """Samples that it was given."""
        self._owner = av.open(io.BytesIO(), "w", format="mp4")
        try:
            layout = _LAYOUTS[form.channels]
            self.stream = self._owner.add_stream("aac", rate=form.rate, layout=layout)
            self.stream.codec_context.bit_rate = _BITS * form.channels
            self.stream.codec_context.flags |= _GLOBAL_HEADER
            self._owner.start_encoding()
        except (KeyError, ValueError, FFmpegError) as error:
            raise _unknown(form) from error
        self._rest = self._newest = torch.zeros(form.channels, 0)
        self._fed = self._skipped = self._made = 0
        self._waiting: deque[Piece] = deque()
        self._flushed = False

    def run_up(self, sound: Tensor) -> None:
        """Let the encoder hear what came before; at the beginning only.

        Args:
            sound: (channels, samples).
        """
        assert not self.length
        pieces = min(sound.shape[-1] // PIECE, RUN_UP)
        self._skipped = pieces
        self._take(_clean(sound)[:, sound.shape[-1] - pieces * PIECE :])

    def add(self, sound: Tensor) -> None:
        """Encode what follows.

        Args:
            sound: (channels, samples), -1 to 1.
        """
        self.length += sound.shape[-1]
        self._take(_clean(sound))

    def ready(self, end: int) -> list[Piece]:
        """Return the pieces that end before so many samples of the video, or with them."""
        return [piece for piece in self._waiting if piece.begin <= end]

    def last(self, end: int) -> list[Piece]:
        """Return what is left before the end of the video, with which the track ends there."""
        if not self._flushed:
            self._flushed = True
            missing = end - self.length
            if 0 < missing <= self.form.rate * _GAP:
                self.add(backwards(self._newest, missing))
            self._go_on()
            self._keep(self.stream.codec_context.encode(None))
        end = min(end, self.length) + PIECE
        left = (piece for piece in self._waiting if piece.begin < end)
        return [Piece(p.begin, min(PIECE, end - p.begin), p.data) for p in left]

    def wrote(self, pieces: list[Piece]) -> None:
        """Forget pieces that are in the file."""
        for _ in pieces:
            self._waiting.popleft()

    def _go_on(self) -> None:
        """Let the encoder hear more than there is: the end of the sound, backwards.

        The last pieces hold half of what follows. Were that silent, its edge would be heard.
        """
        backwards = self._newest.flip(1)
        if backwards.shape[1]:
            missing = max(0, 2 * PIECE - backwards.shape[1])
            self._take(torch.nn.functional.pad(backwards, (0, missing)))

    def _take(self, sound: Tensor) -> None:
        whole = torch.cat((self._rest, sound), dim=1)
        self._newest = torch.cat((self._newest, sound), dim=1)[:, -2 * PIECE :].clone()
        pieces = whole.shape[1] // PIECE
        for number in range(pieces):
            self._encode(whole[:, number * PIECE : (number + 1) * PIECE])
        self._rest = whole[:, pieces * PIECE :].clone()

    def _encode(self, sound: Tensor) -> None:
        array = sound.contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(array, "fltp", _LAYOUTS[self.form.channels])
        frame.sample_rate = self.form.rate
        frame.pts, frame.time_base = self._fed * PIECE, Fraction(1, self.form.rate)
        self._fed += 1
        self._keep(self.stream.codec_context.encode(frame))

    def _keep(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            number, self._made = self._made - self._skipped, self._made + 1
            if number >= 0:
                self._waiting.append(Piece(number * PIECE, PIECE, bytes(packet)))


def backwards(sound: Tensor, count: int) -> Tensor:
    """Return at most so many samples that go on after a sound: its end, backwards."""
    return sound.flip(1)[:, :count]


def sample_at(frames: int, rate: int, fps: Fraction) -> int:
    """Return the sample at which the picture after so many begins: whole numbers, no drift."""
    return frames * rate * fps.denominator // fps.numerator


def _clean(sound: Tensor) -> Tensor:
    """Return sound as the encoder takes it; what is no number is silent."""
    return sound.detach().to("cpu", torch.float32).nan_to_num(0.0).clamp(-1.0, 1.0)


def _unknown(form: SoundFormat) -> VideoFileError:
    return VideoFileError(
        "sound",
        problem=(
            f"sound of {form.channels} channels at {form.rate} samples a second cannot be written"
        ),
        seen=f"{form.channels} x {form.rate}",
        expected="mono or stereo at a rate of AAC, such as 32000 or 48000",
        remedy="disconnect audio_vae for a silent video",
    )
