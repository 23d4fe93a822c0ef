"""Segments of a named stream: files that hold nothing but the bytes of tensors, one after another.

A segment only grows, at its end, until it is full. What comes after the size in the manifest
was left by a commit that did not finish; the next one writes over it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from io import BufferedRandom, BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from ..digest import tensor_digest
from ..errors import StateFileError
from .manifest import Segment
from .schema import DTYPES, Place, Refuse

LARGEST = 1 << 30
"""Bytes at which a segment is full."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Appender:
    """A file that is written at its end, and can be restored.

    Args:
        path: The file.
        size: Its bytes so far that count; None makes a new file.

    Raises:
        OSError: If it cannot be opened.
    """

    def __init__(self, path: Path, size: int | None) -> None:
        self.path, self._before = path, size
        self._file: BufferedRandom = path.open("x+b" if size is None else "r+b")
        self.size = size or 0
        self._file.truncate(self.size)
        self._file.seek(self.size)

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes after those that are there."""
        self._file.write(data)
        self.size += len(data)

    def finish(self) -> None:
        """Flush it to disk and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def undo(self) -> None:
        """Restore it to what it was, and close it."""
        try:
            self._file.close()
        finally:  # what could not be flushed is not wanted
            if self._before is None:
                self.path.unlink(missing_ok=True)
            else:
                os.truncate(self.path, self._before)


class SegmentWriter:
    """The writer of one revision's tensors: to the newest segment, and to new ones when it is full.

    Args:
        folder: Folder of the stream.
        revision: The revision that is written, for the names of new files.
        newest: The segment to continue, if any.
        most: How many events and conditionings a segment may hold; None for any number.
    """

    def __init__(
        self, folder: Path, revision: int, newest: Segment | None, most: int | None
    ) -> None:
        self._folder, self._revision, self._most = folder, revision, most
        self._segment = newest
        self._appender: Appender | None = None
        self.written: dict[str, Segment] = {}
        self.appenders: list[Appender] = []

    def add(self, tensors: Sequence[Tensor]) -> list[Place]:
        """Write the tensors of one event or conditioning.

        Raises:
            OSError: If they cannot be written.
            StateFileError: If a tensor is of a kind that cannot be kept.
        """
        appender = self._open()
        places = []
        for tensor in tensors:
            data = tensor.detach().cpu().contiguous()
            places.append(_place(data, appender.path.name, appender.size))
            if data.numel():
                appender.write(data.reshape(-1).view(torch.uint8).numpy().data)
        assert self._segment is not None
        held = self._segment.held + 1
        self._segment = Segment(file=appender.path.name, size=appender.size, held=held)
        self.written[self._segment.file] = self._segment
        return places

    def _open(self) -> Appender:
        segment = self._segment
        full = segment is not None and (
            segment.size >= LARGEST or (self._most is not None and segment.held >= self._most)
        )
        if segment is None or full:
            name = f"segment.{self._revision:05d}.{secrets.token_hex(4)}.bin"
            self._appender = self._appended(name, None)
            self._segment = Segment(file=name, size=0, held=0)
        elif self._appender is None:
            self._appender = self._appended(segment.file, segment.size)
        assert self._appender is not None
        return self._appender

    def _appended(self, name: str, size: int | None) -> Appender:
        self.appenders.append(Appender(self._folder / name, size))
        return self.appenders[-1]


class SegmentReader:
    """The reader of a stream's tensors.

    Args:
        folder: Folder of the stream.
        segments: Those that its manifest names.
        refuse: Makes the error of a damaged folder.
    """

    def __init__(self, folder: Path, segments: Iterable[Segment], refuse: Refuse) -> None:
        self._folder, self._refuse = folder, refuse
        self._sizes = {segment.file: segment.size for segment in segments}
        self._open: tuple[str, BufferedReader] | None = None

    def check(self, place: Place) -> tuple[str, tuple[int, ...]]:
        """Return dtype and shape of a tensor that is there in full.

        Raises:
            StateFileError: If it is not.
        """
        if place.end > self._sizes.get(place.segment, -1):
            raise self._refuse(f"a tensor that is not in {place.segment}")
        return place.dtype, place.shape

    def read(self, place: Place) -> Tensor:
        """Return a tensor in memory of its own.

        Raises:
            OSError: If the file cannot be read.
            StateFileError: If it is not the tensor that was written.
        """
        self.check(place)
        if self._open is None or self._open[0] != place.segment:
            self.close()
            self._open = (place.segment, (self._folder / place.segment).open("rb"))
        # In memory of its own, and so aligned as any other: kernels round by alignment.
        tensor = torch.empty(place.shape, dtype=DTYPES[place.dtype])
        if tensor.numel():
            file = self._open[1]
            file.seek(place.at)
            file.readinto(tensor.reshape(-1).view(torch.uint8).numpy().data)
        if tensor_digest(tensor) != place.digest:
            raise self._refuse(f"a tensor in {place.segment} that differs from its digest")
        return tensor

    def close(self) -> None:
        """Close the file that was read last."""
        if self._open is not None:
            self._open[1].close()
        self._open = None


def _place(tensor: Tensor, segment: str, at: int) -> Place:
    if tensor.dtype not in _NAMES:
        raise StateFileError(
            "tensor to keep",
            problem=f"a prompt holds numbers of a kind that cannot be saved ({tensor.dtype})",
            seen=str(tensor.dtype),
            expected=", ".join(_NAMES.values()),
            remedy="remove the conditioning node that made it",
        )
    return Place(
        segment=segment,
        at=at,
        dtype=_NAMES[tensor.dtype],
        shape=tuple(tensor.shape),
        digest=tensor_digest(tensor),
    )
