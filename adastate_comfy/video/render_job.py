"""A stream on its way to disk, chunk by chunk: decode it, encode it, and note what made it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import comfy.model_management
from torch import Tensor

from ...adastate_core.errors import AdaStateError, VideoFileError
from ...adastate_core.files.disk_reserve import DiskReserve
from ...adastate_core.files.receipts import ReceiptFile
from ...adastate_core.files.state_file import save_state
from ...adastate_core.stream.events import ChunkEvent, Event, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from ...adastate_core.stream.summary import receipt
from ..sockets.latents import from_model_space
from .decoders import LOOK_BACK, ChunkDecoder
from .render_files import STOPPED_SUFFIX
from .video_file import VideoFile, disk_error

_HEADER_BYTES = 1024
"""What the header of a state file says of a chunk besides its prompt, at most."""
_CHARACTER_BYTES = 6
"""Bytes of a character of a prompt there, at most."""

_Written = tuple[StreamState, Tensor, Tensor | None]


class RenderJob:
    """The decoding and writing of chunks, with a receipt for each.

    Args:
        video: The file to write.
        receipts: The receipts beside it.
        decoder: Decoder of this video.
        show: Called with the stream as far as it was written, the images of its newest chunk,
            (frames, H, W, 3), and the image of its hidden state, (1, H, W, 3), or None.
        in_background: Whether a thread decodes and writes a chunk while the next one is made.
    """

    def __init__(
        self,
        video: VideoFile,
        receipts: ReceiptFile,
        decoder: ChunkDecoder,
        show: Callable[[StreamState, Tensor, Tensor | None], None],
        *,
        in_background: bool,
    ) -> None:
        self._video, self._receipts, self._decoder = video, receipts, decoder
        self._show = show
        self._thread = ThreadPoolExecutor(1, "adastate-render") if in_background else None
        self._pending: Future[_Written] | None = None
        self._written: StreamState | None = None
        self._reserve = DiskReserve(video.path.parent)
        self._at_first = self._since = self._headers = 0
        self._ended = False

    def begin(self, state: StreamState, part: int, include_start: bool) -> None:
        """Decode what the stream keeps, so that the images go on from there.

        Args:
            state: The stream so far.
            part: Latent frames to decode at a time.
            include_start: Whether given frames are part of the video; only those in front of
                chunk 0 can be.
        """
        self._decoder.load()
        begins = state.chunk_index == 0
        known = [
            latents
            for event in state.events
            if isinstance(event, ChunkEvent)
            or (isinstance(event, GivenLatentsEvent) and event.reason == "start")
            if event.content is not None
            for latents in event.content.split(part, dim=2)
        ]
        for latents in known if begins and include_start else _newest(known, LOOK_BACK):
            comfy.model_management.throw_exception_if_processing_interrupted()
            images = self._decode(state, latents)
            if begins and include_start:
                self._video.add(images)

    def add(self, state: StreamState, prompt: dict[str, Any] | None = None) -> None:
        """Decode and write the newest chunk, or have it done while the next one is made.

        Args:
            state: The stream after the chunk.
            prompt: What its receipt says of the prompt, if it is known.
        """
        self._wait()
        self._decoder.load()
        if self._thread is not None and self._decoder.can_run_in_background:
            self._pending = self._thread.submit(self._write, state, prompt or {})
        else:
            self._show(*self._write(state, prompt or {}))

    def finish(self) -> None:
        """Wait for the last chunk and close the files.

        Raises:
            VideoFileError: If there is no room for the end; all chunks are in the video.
        """
        self._wait()
        self._close("complete")

    def stop(self, reason: str) -> str:
        """Close the files after a failure and keep the stream as far as it was written.

        It never fails itself: what the artist has to see is the failure before it.

        Returns:
            What is left on disk, for the artist.
        """
        with suppress(Exception):  # whatever it was, the chunks before it are written
            self._wait()
        with suppress(Exception):
            self._close(reason)
        path, frames = self._video.path, self._video.frames
        if not frames:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                self._receipts.path.unlink(missing_ok=True)
            return "stopped: nothing was written"
        left = f"stopped: {frames} frames are in {path.name}"
        if self._written is None:
            return left
        state = path.with_name(path.stem + STOPPED_SUFFIX)
        try:
            save_state(self._written, state, self._video.metadata)
        except (OSError, AdaStateError):
            return f"{left}; there was no room for the stream"
        return f"{left}, and the stream after them in {state.name}: continue with Load State"

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._show(*pending.result())

    def _write(self, state: StreamState, prompt: dict[str, Any]) -> _Written:
        first = self._video.frames
        images = self._decode(state, state.newest_content())
        self._keep_room(state)
        self._video.add(images)
        chunk = state.last_chunk
        assert chunk is not None
        self._written = state
        self._note({**receipt(chunk), **prompt, "frames": [first, self._video.frames - 1]})
        return state, images, self._decode_hidden(chunk, state)

    def _decode_hidden(self, chunk: ChunkEvent, state: StreamState) -> Tensor | None:
        if chunk.state is None:
            return None
        samples = from_model_space(state, chunk.state[:, :, -1:])["samples"]
        try:
            return self._decoder.decode_alone(samples)[0]
        except Exception as error:  # it is not in the video
            logging.warning("AdaState: no picture of the hidden state: %s", error)
            return None

    def _keep_room(self, state: StreamState) -> None:
        """Keep the room that this stream needs if it has to be saved, before the video takes it."""
        if self._written is None:
            page = 2 * sum(map(len, self._video.metadata.values()))  # in JSON once more
            self._at_first, self._since, self._headers = _bytes_of(state) + page, 0, 0
        else:
            self._since += 1
            self._headers += _header_bytes(state.last_chunk)
        added = min(self._since, state.history_chunks or self._since)
        chunk = state.newest_content().nbytes * 2  # the hidden state is no longer than the content
        try:
            self._reserve.grow(self._at_first + added * chunk + self._headers)
        except OSError as error:
            raise disk_error(self._video.path, error) from error

    def _decode(self, state: StreamState, latents: Tensor) -> Tensor:
        return self._decoder.decode(from_model_space(state, latents)["samples"])[0]

    def _close(self, reason: str) -> None:
        """Close the files; what is closed already stays as it is."""
        if self._thread is not None:
            self._thread.shutdown()
        self._reserve.release()
        try:
            self._video.close()
        except VideoFileError:
            with suppress(VideoFileError):  # the first failure is the one to tell
                self._note_end(reason)
            raise
        self._note_end(reason)

    def _note_end(self, reason: str) -> None:
        if not self._ended:
            self._note({"event": "end", "reason": reason, "frames": self._video.frames})
            self._ended = True

    def _note(self, receipt: dict[str, object]) -> None:
        try:
            self._receipts.add(receipt)
        except OSError as error:
            raise disk_error(self._receipts.path, error) from error


def _newest(parts: list[Tensor], frames: int) -> list[Tensor]:
    """Return as few of the last parts as hold so many latent frames, or all."""
    held, first = 0, len(parts)
    while first and held < frames:
        first -= 1
        held += parts[first].shape[2]
    return parts[first:]


def _bytes_of(state: StreamState) -> int:
    """Estimate how large the file of a stream gets."""
    conditionings = state.conditionings.values()
    tensors = [tensor for each in conditionings for tensor in each.tensors.values()]
    for event in state.events:
        if isinstance(event, (ChunkEvent, GivenLatentsEvent)):
            tensors += [t for t in (event.state, event.content) if t is not None]
    header = sum(len(each.structure) for each in conditionings)
    header += sum(_header_bytes(event) for event in (None, *state.events))
    return header + sum(t.nbytes for t in tensors)


def _header_bytes(event: Event | None) -> int:
    prompt = event.prompt if isinstance(event, ChunkEvent) else ""
    return _HEADER_BYTES + _CHARACTER_BYTES * len(prompt)
