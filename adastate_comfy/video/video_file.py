"""A video file that grows part by part and plays after every part.

The file is a fragmented MP4: a header, which holds the workflow, and then a fragment for every
part. Each part is muxed in memory and appended with one write, so that neither a kill nor a full
disk leaves more behind than the whole fragments before it. When it is closed it gets an index, so
that players know its length and every frame from the start.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import Colorspace
from torch import Tensor

from ...adastate_core.errors import VideoFileError
from ..progress import pixels_of
from .encoders import Codec, OpenEncoder, tag_of
from .fragments import Fragments
from .mp4_index import add_index, room_for_index, write_all
from .sound_track import PIECE, Piece, SoundFormat, SoundTrack


class VideoFile:
    """A video that is being written.

    Args:
        path: The file; it must not exist, or be empty.
        size: Width and height, both even.
        fps: Frames per second.
        crf: Quality of the encoder, the lower the better.
        codec: A key of `encoders.ENCODERS`.
        metadata: Texts to put into the header, such as the workflow.
        expected: Frames and parts for which room is kept in front, where an index is found soonest.
        sound: What its sound is; None for a silent video.

    Raises:
        VideoFileError: If this video cannot be encoded here.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        *,
        fps: float,
        crf: float,
        codec: Codec = "h264",
        metadata: dict[str, str] | None = None,
        expected: tuple[int, int] = (8192, 1024),
        sound: SoundFormat | None = None,
    ) -> None:
        self.path = path
        self.frames = 0
        """Frames in the file."""
        self.metadata = metadata or {}
        self.rate = Fraction(round(fps * 1000), 1000)
        """Frames per second."""
        self.sound = sound
        """What its sound is, or None."""
        self._expected = expected
        self._codec, self._tag = codec, tag_of(codec)
        self._encoded = self._bytes = 0
        self._closed = False
        # It owns the encoder and describes its stream to others.
        self._encoder = OpenEncoder(codec, size, self.rate, crf)
        self._stream = self._encoder.stream
        self._track = SoundTrack(sound) if sound is not None else None
        self._fragments = Fragments(self._stream, self._track, self.metadata)

    def samples(self, frames: int) -> int:
        """Return how many samples of sound go with the first frames."""
        assert self.sound is not None
        return self.sound.samples(frames, self.rate)

    def run_up(self, sound: Tensor) -> None:
        """Hear what came before the video, so that its sound goes on from there; at first only.

        Args:
            sound: (channels, samples).
        """
        assert self._track is not None
        self._track.run_up(sound)

    def add(self, images: Tensor, sound: Tensor | None = None) -> None:
        """Encode and write the next part.

        Sound that begins after the pictures end waits for the next part, and the pictures do not
        wait for their sound.

        Args:
            images: (frames, height, width, 3), 0 to 1; may be none.
            sound: The sound that follows, (channels, samples), -1 to 1.

        Raises:
            VideoFileError: If the disk does not take it, or the encoder gives less than all of it;
                the file then ends with the part before.
        """
        packets = [packet for pixels in pixels_of(images) for packet in self._encode(pixels)]
        if len(packets) != len(images):
            raise VideoFileError(
                "codec",
                problem=f"the codec {self._codec} holds frames back, so that no chunk is whole",
                seen=f"{len(packets)} frames of {len(images)}",
                expected="all of them",
                remedy="choose h264",
            )
        pieces = []
        if self._track is not None:
            if sound is not None:
                self._track.add(sound)
            pieces = self._track.ready(self.samples(self._encoded))
        self._write(packets, pieces)
        self.frames = self._encoded

    def close(self) -> None:
        """Write the rest of the sound and add the index; closing again does nothing.

        Raises:
            VideoFileError: If there is no room for them; the video plays without.
        """
        if self._closed:
            return
        self._closed = True
        self._stream.codec_context.encode(None)
        if not self.frames:
            return
        try:
            if self._track is not None:
                self._write([], self._track.last(self.samples(self.frames)))
        finally:
            self._add_index()

    def _encode(self, pixels: Tensor) -> list[av.Packet]:
        frame = av.VideoFrame.from_ndarray(pixels.numpy(), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = self._encoded, 1 / self.rate
        self._encoded += 1
        packets: list[av.Packet] = self._stream.codec_context.encode(frame)
        return packets

    def _write(self, packets: list[av.Packet], pieces: list[Piece]) -> None:
        """Write a fragment; what comes before the first one goes into the file once."""
        if not packets and not pieces:
            return
        head, fragment = self._fragments.mux(packets, pieces)
        self._append(fragment if self._bytes else self._head(head) + fragment)
        if self._track is not None:
            self._track.wrote(pieces)

    def _head(self, header: bytes) -> bytes:
        """Return what comes before the first fragment."""
        if self._tag is not None:
            header = header.replace(*self._tag, 1)
        frames, parts = self._expected
        sounds = self.samples(frames) // PIECE + 2 if self._track is not None else 0
        return header + room_for_index(header, frames, parts, sounds)

    def _add_index(self) -> None:
        try:
            add_index(self.path)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def _append(self, data: bytes) -> None:
        try:
            with open(self.path, "r+b", buffering=0, opener=_open_or_create) as file:
                if file.seek(0, os.SEEK_END) and not self._bytes:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                try:
                    file.seek(self._bytes)
                    write_all(file, data)
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):  # what has to be told is why it could not be written
                        file.truncate(self._bytes)
                    raise
        except OSError as error:
            raise disk_error(self.path, error) from error
        self._bytes += len(data)


def disk_error(path: Path, error: OSError) -> VideoFileError:
    """Say that a file of a video could not be written."""
    return VideoFileError(
        f"writing {path.name}",
        problem=f"{path.name} cannot be written ({error.strerror})",
        seen=f"'{error.strerror}'",
        expected="a folder with room",
        remedy="free some space and queue again; the video so far plays up to its last chunk",
    )


def _open_or_create(path: str, flags: int) -> int:
    """Open a file, and make it if it is missing."""
    return os.open(path, flags | os.O_CREAT, 0o666)
