"""Room on the disk for a stream that may have to be saved when a render stops."""

from __future__ import annotations

from ...adastate_core.files.disk_reserve import DiskReserve
from ...adastate_core.stream.events import ChunkEvent, Event, GivenLatentsEvent
from ...adastate_core.stream.state import StreamState
from .render_history import sound_of
from .video_file import VideoFile, disk_error

_HEADER_BYTES = 1024
"""What the header of a state file says of a chunk besides its prompt, at most."""
_CHARACTER_BYTES = 6
"""Bytes of a character of a prompt there, at most."""


class SavedRoom:
    """A reserve beside a video that grows with its stream.

    Args:
        video: The video.
    """

    def __init__(self, video: VideoFile) -> None:
        self._video = video
        self._reserve = DiskReserve(video.path.parent)
        self._begun = False
        self._at_first = self._since = self._headers = 0

    def keep_for(self, state: StreamState) -> None:
        """Keep what the stream after one more chunk needs, before the video takes it.

        Raises:
            VideoFileError: If there is not as much.
        """
        if not self._begun:
            page = 2 * sum(map(len, self._video.metadata.values()))  # in JSON once more
            self._at_first, self._begun = _bytes_of(state) + page, True
        else:
            self._since += 1
            self._headers += _header_bytes(state.last_chunk)
        added = min(self._since, state.history_chunks or self._since)
        chunk = state.newest_content().nbytes * 2  # the hidden state is no longer than the content
        newest = sound_of(state.last_chunk)
        if newest is not None:
            chunk += newest.nbytes
        try:
            self._reserve.grow(self._at_first + added * chunk + self._headers)
        except OSError as error:
            raise disk_error(self._video.path, error) from error

    def release(self) -> None:
        """Give the room back."""
        self._reserve.release()


def _bytes_of(state: StreamState) -> int:
    """Estimate how large the file of a stream gets."""
    conditionings = state.conditionings.values()
    tensors = [tensor for each in conditionings for tensor in each.tensors.values()]
    for event in state.events:
        if isinstance(event, (ChunkEvent, GivenLatentsEvent)):
            parts = (event.state, event.content, sound_of(event))
            tensors += [part for part in parts if part is not None]
    header = sum(len(each.structure) for each in conditionings)
    header += sum(_header_bytes(event) for event in (None, *state.events))
    return header + sum(t.nbytes for t in tensors)


def _header_bytes(event: Event | None) -> int:
    prompt = event.prompt if isinstance(event, ChunkEvent) else ""
    return _HEADER_BYTES + _CHARACTER_BYTES * len(prompt)
