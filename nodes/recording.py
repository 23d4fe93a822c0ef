"""A stream on its way to disk: decoded, encoded and receipted chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from torch import Tensor

from ..adastate_core.errors import StateFileError, VideoFileError
from ..adastate_core.receipts import ReceiptFile
from ..adastate_core.record import ChunkEntry, RootEntry
from ..adastate_core.report import receipt
from ..adastate_core.state import StreamState
from ..adastate_core.storage import SUFFIX, save_state
from .latents import from_model_space
from .pictures import LOOK_BACK, PartDecoder
from .video_file import VideoFile, disk_error


class Recording:
    """Decode chunks and write their pictures, with a receipt for each.

    Args:
        video: The file to write.
        receipts: The receipts beside it.
        decoder: Decoder of this video.
        show: Called with the pictures that were written, (frames, H, W, 3).
        apart: Whether a thread decodes and writes a chunk while the next one is made.
    """

    def __init__(
        self,
        video: VideoFile,
        receipts: ReceiptFile,
        decoder: PartDecoder,
        show: Callable[[Tensor], None],
        *,
        apart: bool,
    ) -> None:
        self._video, self._receipts, self._decoder = video, receipts, decoder
        self._show = show
        self._thread = ThreadPoolExecutor(1, "adastate-recording") if apart else None
        self._pending: Future[Tensor] | None = None
        self._written: StreamState | None = None

    def begin(self, state: StreamState, part: int, include_start: bool) -> None:
        """Decode what the stream remembers, so that the pictures go on from there.

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
            for entry in state.entries
            if isinstance(entry, ChunkEntry)
            or (isinstance(entry, RootEntry) and entry.reason == "start")
            if entry.content is not None
            for latents in entry.content.split(part, dim=2)
        ]
        for latents in known if begins and include_start else _newest(known, LOOK_BACK):
            pictures = self._decode(state, latents)
            if begins and include_start:
                self._video.add(pictures)
                self._show(pictures)

    def add(self, state: StreamState) -> None:
        """Decode and write the newest chunk, or have it done while the next one is made."""
        self._wait()
        self._decoder.load()
        if self._thread is not None and self._decoder.can_run_apart:
            self._pending = self._thread.submit(self._write, state)
        else:
            self._show(self._write(state))

    def finish(self) -> None:
        """Wait for the last chunk and close the files."""
        self._wait()
        self._close("complete")

    def stop(self, reason: str) -> str:
        """Close the files after a failure and keep the stream as far as it was written.

        Returns:
            What is left on disk, for the artist.
        """
        with suppress(Exception):  # whatever it was, the chunks before it are written
            self._wait()
        with suppress(OSError, VideoFileError):
            self._close(reason)
        if not self._video.path.exists():
            self._receipts.path.unlink(missing_ok=True)
            return "stopped: nothing was written"
        left = f"stopped: {self._video.frames} frames are in {self._video.path.name}"
        if self._written is None:
            return left
        state = self._video.path.with_name(self._video.path.stem + SUFFIX)
        try:
            save_state(self._written, state)
        except (OSError, StateFileError):
            return f"{left}; there was no room for the stream"
        return f"{left}, and the stream after them in {state.name}: go on with Load State"

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._show(pending.result())

    def _write(self, state: StreamState) -> Tensor:
        first = self._video.frames
        pictures = self._decode(state, state.newest_content())
        self._video.add(pictures)
        chunk = state.last_chunk
        assert chunk is not None
        self._written = state
        self._note({**receipt(chunk), "frames": [first, self._video.frames - 1]})
        return pictures

    def _decode(self, state: StreamState, latents: Tensor) -> Tensor:
        return self._decoder.decode(from_model_space(state, latents)["samples"])[0]

    def _close(self, reason: str) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._video.close()
        self._note({"event": "end", "reason": reason, "frames": self._video.frames})

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
