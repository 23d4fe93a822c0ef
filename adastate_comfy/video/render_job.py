"""A stream on its way to disk, chunk by chunk: decode it, encode it, and note what made it.

Three things overlap: a chunk is made, the one before it is decoded, and one before that is encoded
and written. Decoding is asked of the device between two chunks, or by a thread of its own; a
second thread waits for the images, encodes and writes them, notes the chunk and shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
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
from .bounded_worker import BoundedWorker
from .decoders import LOOK_BACK, ChunkDecoder, LaterImages
from .device_copies import SideStream
from .render_files import STOPPED_SUFFIX
from .video_file import VideoFile, disk_error

_HEADER_BYTES = 1024
"""What the header of a state file says of a chunk besides its prompt, at most."""
_CHARACTER_BYTES = 6
"""Bytes of a character of a prompt there, at most."""

_WAITING = 1
"""Decoded chunks that wait for the one that is being written; more would only take memory."""


class RenderJob:
    """The decoding and writing of chunks, with a receipt for each.

    Args:
        video: The file to write.
        receipts: The receipts beside it.
        decoder: Decoder of this video.
        show: Called in the thread that writes, with the stream as far as it was written, the images
            of its newest chunk, (frames, H, W, 3), and the image of its hidden state, (1, H, W, 3),
            or None.
        in_background: Whether a thread decodes a chunk while the next one is made.
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
        self._side: SideStream | None = None
        self._thread = ThreadPoolExecutor(1, "adastate-decode") if in_background else None
        self._decoding: Future[None] | None = None
        self._writer = BoundedWorker("adastate-write", waiting=_WAITING)
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
        if self._thread is not None and self._decoder.can_run_in_background:
            self._side = SideStream(self._decoder.device)
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
            with self._beside(self._mark()):
                images = self._decoder.decode_later(self._samples(state, latents))
            if begins and include_start:
                self._writer.submit(partial(self._add, images))

    def add(self, state: StreamState, prompt: dict[str, Any] | None = None) -> None:
        """Begin to decode the newest chunk; it is written while the next one is made.

        Args:
            state: The stream after the chunk.
            prompt: What its receipt says of the prompt, if it is known.

        Raises:
            Exception: What went wrong with a chunk before, none after which is written.
        """
        self._finish_decoding()
        self._writer.check()
        self._decoder.load()
        decode = partial(self._decode, state, prompt or {}, self._mark())
        if self._thread is not None and self._decoder.can_run_in_background:
            self._decoding = self._thread.submit(decode)
        else:
            decode()

    def finish(self) -> None:
        """Wait until the last chunk is written and close the files.

        Raises:
            VideoFileError: If there is no room for the end; all chunks are in the video.
        """
        self._finish_decoding()
        self._writer.drain()
        self._close("complete")

    def stop(self, reason: str) -> str:
        """Close the files after a failure and keep the stream as far as it was written.

        It never fails itself: what the artist has to see is the failure before it.

        Returns:
            What is left on disk, for the artist.
        """
        # Whatever it was, the chunks before it are written.
        with suppress(Exception):
            self._finish_decoding()
        with suppress(Exception):
            self._writer.drain()
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

    def _finish_decoding(self) -> None:
        """Wait for the thread that decodes."""
        decoding, self._decoding = self._decoding, None
        if decoding is not None:
            decoding.result()

    def _mark(self) -> Any:
        return self._side.mark() if self._side is not None else None

    def _beside(self, mark: Any) -> AbstractContextManager[None]:
        """Have what is asked of the device inside done beside the sampler, after a mark."""
        if self._side is None:
            return nullcontext()
        return self._side.after(mark, self._decoder.weights())

    def _decode(self, state: StreamState, prompt: dict[str, Any], mark: Any) -> None:
        """Begin to decode a chunk, and have it written once its images are there."""
        with self._beside(mark):
            samples = self._samples(state, state.newest_content())
            chunk = state.last_chunk
            assert chunk is not None
            alone = chunk.state[:, :, -1:] if chunk.state is not None else None
            hidden = self._samples(state, alone) if alone is not None else None
            images = self._decoder.decode_later(samples)
            still = self._decode_hidden(hidden) if hidden is not None else None
        self._writer.submit(partial(self._write, state, images, still, prompt))

    def _samples(self, state: StreamState, latents: Tensor) -> Tensor:
        return self._decoder.placed(from_model_space(state, latents)["samples"])

    def _decode_hidden(self, samples: Tensor) -> LaterImages | None:
        try:
            return self._decoder.decode_alone_later(samples)
        except Exception as error:  # it is not in the video
            _tell_without_hidden(error)
            return None

    def _add(self, images: LaterImages) -> None:
        self._video.add(images()[0])

    def _write(
        self,
        state: StreamState,
        images: LaterImages,
        still: LaterImages | None,
        prompt: dict[str, Any],
    ) -> None:
        """Write a chunk and show it; in the thread."""
        first = self._video.frames
        made = images()[0]
        self._keep_room(state)
        self._video.add(made)
        chunk = state.last_chunk
        assert chunk is not None
        self._written = state
        self._note({**receipt(chunk), **prompt, "frames": [first, self._video.frames - 1]})
        self._show(state, made, _hidden_image(still))

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

    def _close(self, reason: str) -> None:
        """Close the files; what is closed already stays as it is."""
        if self._thread is not None:
            self._thread.shutdown()
        self._writer.close()
        if self._side is not None:
            self._side.wait()
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


def _hidden_image(still: LaterImages | None) -> Tensor | None:
    try:
        return still()[0] if still is not None else None
    except Exception as error:  # it is not in the video
        _tell_without_hidden(error)
        return None


def _tell_without_hidden(error: Exception) -> None:
    logging.warning("AdaState: no picture of the hidden state: %s", error)


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
