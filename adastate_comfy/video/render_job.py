"""A stream on its way to disk, chunk by chunk: decode it, encode it, and note what made it.

Three things overlap: a chunk is made, the one before it is decoded, and one before that is encoded
and written. Decoding is asked of the device between two chunks, or by a thread of its own; a
second thread waits for the images, encodes and writes them, notes the chunk and shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import chain
from typing import Any

import comfy.model_management
from torch import Tensor

from ...adastate_core.errors import AdaStateError, VideoFileError
from ...adastate_core.files.receipts import ReceiptFile
from ...adastate_core.files.state_file import save_state
from ...adastate_core.stream.state import StreamState
from ...adastate_core.stream.summary import receipt
from ..sockets.latents import from_model_space
from .bounded_worker import BoundedWorker
from .decoders import ChunkDecoder, LaterImages
from .device_copies import SideStream
from .part_decoder import Later
from .render_files import STOPPED_SUFFIX
from .render_history import given_parts, newest_parts, newest_sound, sound_of
from .render_sound import RenderSound
from .saved_room import SavedRoom
from .video_file import VideoFile, disk_error
from .whole_chunks import MadeChunk, VideoPart, WholeChunks

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
        sound: The sound of the video, or None.
    """

    def __init__(
        self,
        video: VideoFile,
        receipts: ReceiptFile,
        decoder: ChunkDecoder,
        show: Callable[[StreamState, Tensor, Tensor | None], None],
        *,
        in_background: bool,
        sound: RenderSound | None = None,
    ) -> None:
        self.decoder = decoder
        self._video, self._receipts = video, receipts
        self._show, self._sound = show, sound
        self._side: SideStream | None = None
        self._thread = ThreadPoolExecutor(1, "adastate-decode") if in_background else None
        self._decoding: Future[None] | None = None
        self._writer = BoundedWorker("adastate-write", waiting=_WAITING)
        self._whole = WholeChunks()
        self._skipped = self._latents = 0
        self._written: StreamState | None = None
        self._room = SavedRoom(video)
        self._flushed = self._ended = False

    @property
    def stays_loaded(self) -> bool:
        """Whether a chunk can be decoded now without a call of model management."""
        sound = self._sound is None or self._sound.decoder.stays_loaded
        return sound and self.decoder.stays_loaded

    @property
    def can_run_in_background(self) -> bool:
        """Whether a thread can decode; known once something was decoded."""
        sound = self._sound is None or self._sound.decoder.can_run_in_background
        return sound and self.decoder.can_run_in_background

    @property
    def loads(self) -> int:
        """How often a VAE had to be brought to its device."""
        sound = self._sound.decoder.loads if self._sound is not None else 0
        return max(sound, self.decoder.loads)

    def begin(self, state: StreamState, part: int, include_start: bool) -> None:
        """Decode what the stream keeps, so that the images go on from there.

        Args:
            state: The stream so far.
            part: Latent frames to decode at a time.
            include_start: Whether given frames are part of the video; only those in front of
                chunk 0 can be.
        """
        self.decoder.load()
        if self._thread is not None and self.decoder.can_run_in_background:
            self._side = SideStream(self.decoder.device)
        shown = include_start and state.chunk_index == 0
        known = given_parts(state, part) if shown else newest_parts(state, self.decoder, part)
        if not shown:
            self._skipped = self.decoder.frames_of(sum(each.shape[2] for each in known))
        self._whole = WholeChunks(self._skipped, self._video.samples if self._sound else None)
        for latents in known:
            comfy.model_management.throw_exception_if_processing_interrupted()
            with self._beside(self._mark()):
                images = self.decoder.decode_later(self._samples(state, latents))
            self._latents += latents.shape[2]
            self._submit(VideoPart(self._shown()) if shown else None, images)
        if self._sound is not None:
            self._sound.decoder.load()
            with self._beside(self._mark()):
                newest = newest_sound(state, self._sound.look_back)
                heard = self._sound.begin(newest, state.next_frame)
            self._submit(None, None, heard)

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
        self.decoder.load()
        if self._thread is not None and self._may_decode_apart():
            decode = partial(self._decode, state, prompt or {}, self._mark(), apart=True)
            self._decoding = self._thread.submit(decode)
        else:
            self._decode(state, prompt or {}, self._mark(), apart=False)

    def finish(self) -> None:
        """Wait until the last chunk is written and close the files.

        Raises:
            VideoFileError: If there is no room for the end; all chunks are in the video.
        """
        self._finish_decoding()
        self._flush()
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
            self._flush()
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
        return self._side.after(mark, self._weights())

    def _weights(self) -> Iterator[Tensor]:
        sound = self._sound.decoder.weights() if self._sound is not None else ()
        return chain(self.decoder.weights(), sound)

    def _may_decode_apart(self) -> bool:
        """Say whether a thread may decode; in the main thread, once the VAE is loaded."""
        if not self.decoder.can_run_in_background or self._sound is None:
            return self.decoder.can_run_in_background
        self._sound.decoder.load()
        # The VAE of the sound may have taken the room of the other one.
        return self._sound.decoder.can_run_in_background and self.decoder.stays_loaded

    def _decode(
        self, state: StreamState, prompt: dict[str, Any], mark: Any, *, apart: bool
    ) -> None:
        """Begin to decode a chunk, and have it written once its images are there."""
        chunk = state.last_chunk
        assert chunk is not None
        content, before = state.newest_content(), self._shown()
        if self._sound is not None and not apart:
            self.decoder.load()
        with self._beside(mark):
            samples = self._samples(state, content)
            alone = chunk.state[:, :, -1:] if chunk.state is not None else None
            hidden = self._samples(state, alone) if alone is not None else None
            images = self.decoder.decode_later(samples)
            still = self._decode_hidden(hidden) if hidden is not None else None
        self._latents += content.shape[2]
        latents, heard = sound_of(chunk), None
        if self._sound is not None and latents is not None:
            if not apart:
                self._sound.decoder.load()
                mark = self._mark()
            with self._beside(mark):
                heard = self._sound.decode_later(latents, chunk.frame, before)
        made = MadeChunk(state, prompt, still)
        self._submit(VideoPart(self._shown(), heard is not None, made), images, heard)

    def _flush(self) -> None:
        """Have written what the decoders hold back; nothing comes after it."""
        if self._flushed:
            return
        self._flushed = True
        images = heard = None
        if self.decoder.held_back:
            self.decoder.load()
            with self._beside(self._mark()):
                images = self.decoder.flush_later()
        if self._sound is not None:
            self._sound.decoder.load()
            with self._beside(self._mark()):
                heard = self._sound.flush_later()
        if images is not None or heard is not None:
            self._submit(None, images, heard, ended=True)

    def _shown(self) -> int:
        """Return how many pictures of the video there are once all is decoded."""
        return self.decoder.frames_of(self._latents) - self._skipped

    def _samples(self, state: StreamState, latents: Tensor) -> Tensor:
        return self.decoder.placed(from_model_space(state, latents)["samples"])

    def _decode_hidden(self, samples: Tensor) -> LaterImages | None:
        try:
            return self.decoder.decode_alone_later(samples)
        except Exception as error:  # it is not in the video
            _tell_without_hidden(error)
            return None

    def _submit(
        self,
        part: VideoPart | None,
        images: LaterImages | None,
        heard: Later | None = None,
        *,
        ended: bool = False,
    ) -> None:
        self._writer.submit(partial(self._write, part, images, heard, ended))

    def _write(
        self,
        part: VideoPart | None,
        images: LaterImages | None,
        heard: Later | None,
        ended: bool,
    ) -> None:
        """Take a part, and write what is whole with it; in the thread."""
        if part is not None:
            self._whole.expect(part)
        if images is not None:
            self._whole.add_pictures(images()[0])
        if heard is not None:
            self._whole.add_sound(heard())
        for whole, made, sound in self._whole.whole(ended=ended):
            if whole.chunk is None:
                self._video.add(made, sound)
            else:
                self._write_chunk(whole.chunk, made, sound)

    def _write_chunk(self, made: MadeChunk, images: Tensor, sound: Tensor | None) -> None:
        """Write a chunk and show it."""
        first, state = self._video.frames, made.state
        self._room.keep_for(state)
        self._video.add(images, sound)
        chunk = state.last_chunk
        assert chunk is not None
        self._written = state
        self._note({**receipt(chunk), **made.prompt, "frames": [first, self._video.frames - 1]})
        self._show(state, images, _hidden_image(made.still))

    def _close(self, reason: str) -> None:
        """Close the files; what is closed already stays as it is."""
        if self._thread is not None:
            self._thread.shutdown()
        self._writer.close()
        if self._side is not None:
            self._side.wait()
        self._room.release()
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
