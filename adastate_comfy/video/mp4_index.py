"""The index of a finished MP4: a fragmented file becomes an ordinary one, in place.

While a video grows, its file is a header, room for an index, and a fragment for every part. Players
have to walk all fragments to know how long it is. When it is finished, an ordinary header, which
lists every frame, is written into the room, and then one write of a few bytes inside one sector
takes the first header out of sight and brings the other one in. No frame is moved, and until
that write the file is the fragmented one.

If the index does not fit into the room it goes to the end of the file.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

Write = tuple[int, bytes]
"""Bytes to put at an offset of a file."""

_HEADER = 8
_BYTES_A_FRAME = 8
_BYTES_A_PART = 20
_BESIDE = 4096  # the boxes of a track that do not grow
_MOST = 1 << 21
_LIMIT = 1 << 32
_NOT_SYNC = 0x10000
_DROPPED = (b"mvex", b"stts", b"stsc", b"stsz", b"stco", b"co64", b"stss")
_NESTED = (b"trak", b"mdia", b"minf", b"stbl")


@dataclass(slots=True)
class _Frames:
    """Where the frames of a track are."""

    sizes: array[int] = field(default_factory=lambda: array("I"))
    durations: list[tuple[int, int]] = field(default_factory=list)  # (frames, ticks of each)
    keys: array[int] = field(default_factory=lambda: array("I"))  # counted from 1
    chunks: list[tuple[int, int]] = field(default_factory=list)  # (offset, frames)

    @property
    def ticks(self) -> int:
        return sum(count * ticks for count, ticks in self.durations)


def room_for_index(header: bytes, frames: int, parts: int) -> bytes:
    """Return a free box that an index of so many frames fits into, up to a few MiB.

    Args:
        header: What comes before it in the file.
        frames: Frames to expect.
        parts: Parts to expect.
    """
    wanted = len(header) + _BESIDE + frames * _BYTES_A_FRAME + parts * _BYTES_A_PART
    return _box(b"free", bytes(min(wanted, _MOST)))


def add_index(path: Path) -> None:
    """Turn a finished fragmented file into one with an index.

    Raises:
        OSError: If it cannot be written; the file then stays as it was.
    """
    with path.open("r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            for offset, data in index_writes(file):
                file.seek(offset)
                write_all(file, data)
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # what has to be told is why it could not be written
                file.truncate(end)
            raise


def index_writes(file: BinaryIO) -> Iterator[Write]:
    """Yield what to write, in this order; each has to be on disk before the next one begins.

    Nothing comes of a file that is not fragmented, or not as `VideoFile` writes it.
    """
    top = list(_top_boxes(file))
    moovs = [(start, end) for kind, start, end in top if kind == b"moov"]
    moofs = [(start, end) for kind, start, end in top if kind == b"moof"]
    if len(moovs) != 1 or not moofs:
        return
    (begin, old_end), first, last = moovs[0], moofs[0][0], top[-1][2]
    old = _read(file, begin, old_end)
    frames = _Frames()
    for start, end in moofs:
        _collect(_read(file, start, end), start, old, frames)
    moov = _moov(old, frames)
    gap = first - old_end - _HEADER - len(moov)
    cover = _cover(last - first)
    filler = gap - len(cover)
    if filler == 0 or filler >= _HEADER:
        free = _box(b"free", bytes(filler - _HEADER)) if filler else b""
        yield old_end + _HEADER, moov + free + cover
        yield begin, struct.pack(">I4s", old_end + _HEADER - begin, b"free")
    else:
        yield last, moov
        yield begin, struct.pack(">I4sQ", 1, b"mdat", last - begin)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write until nothing is left: a nearly full disk takes a part and says so the next time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of the boxes of an MP4, or of those in a part of it."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        yield kind, start, start + size
        start += size


def _top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the whole boxes of a file without reading what is in them."""
    start, length = 0, file.seek(0, os.SEEK_END)
    while start + _HEADER <= length:
        size, kind = struct.unpack(">I4s", _read(file, start, start + _HEADER))
        if size == 1:
            (size,) = struct.unpack(">Q", _read(file, start + _HEADER, start + 2 * _HEADER))
        if size < _HEADER or start + size > length:
            return
        yield kind, start, start + size
        start += size


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _collect(moof: bytes, offset: int, moov: bytes, frames: _Frames) -> None:
    """Note the frames of a fragment, which begins at an offset of the file."""
    ticks = size = flags = 0
    for kind, start, end in _inside(moof, b"traf"):
        if kind == b"tfhd":
            ticks, size, flags = _defaults(moof, start, moov)
        elif kind == b"trun":
            _collect_run(moof[start:end], offset, (ticks, size, flags), frames)


def _defaults(moof: bytes, start: int, moov: bytes) -> tuple[int, int, int]:
    """Return duration, size and flags of frames that do not say their own."""
    given = int.from_bytes(moof[start + 9 : start + 12], "big")
    trex = next(begin for kind, begin, _ in _inside(moov, b"mvex") if kind == b"trex")
    values = list(struct.unpack_from(">3I", moov, trex + 20))
    at = start + 16 + 8 * bool(given & 0x1) + 4 * bool(given & 0x2)
    for index, bit in enumerate((0x8, 0x10, 0x20)):
        if given & bit:
            (values[index],) = struct.unpack_from(">I", moof, at)
            at += 4
    return values[0], values[1], values[2]


def _collect_run(trun: bytes, offset: int, defaults: tuple[int, int, int], frames: _Frames) -> None:
    given = int.from_bytes(trun[9:12], "big")
    (count,) = struct.unpack_from(">I", trun, 12)
    numbers = iter(struct.unpack_from(f">{(len(trun) - 16) // 4}I", trun, 16))
    data = next(numbers) if given & 0x1 else 0
    first = next(numbers) if given & 0x4 else None
    frames.chunks.append((offset + data, count))
    for index in range(count):
        ticks = next(numbers) if given & 0x100 else defaults[0]
        size = next(numbers) if given & 0x200 else defaults[1]
        flags = next(numbers) if given & 0x400 else defaults[2]
        if given & 0x800:
            next(numbers)  # frames are shown as they come: there is none but 0
        if index == 0 and first is not None:
            flags = first
        frames.sizes.append(size)
        if not flags & _NOT_SYNC:
            frames.keys.append(len(frames.sizes))
        if frames.durations and frames.durations[-1][1] == ticks:
            frames.durations[-1] = (frames.durations[-1][0] + 1, ticks)
        else:
            frames.durations.append((1, ticks))


def _moov(old: bytes, frames: _Frames) -> bytes:
    """Return the header of a file in which these frames are all there are."""
    media = _find(old, b"mdhd")
    (scale,) = struct.unpack_from(">I", old, media + (20 if old[media + 8] == 0 else 28))
    movie = _find(old, b"mvhd")
    (shown,) = struct.unpack_from(">I", old, movie + (20 if old[movie + 8] == 0 else 28))
    duration = -(-frames.ticks * shown // scale)

    def build(start: int, end: int) -> bytes:
        out = []
        for kind, begin, stop in boxes(old, start, end):
            if kind in _NESTED:
                inner = build(begin + _HEADER, stop)
                out.append(_box(kind, inner + _table(frames) if kind == b"stbl" else inner))
            elif kind == b"mvhd":
                out.append(_with_duration(old[begin:stop], 12, duration))
            elif kind == b"tkhd":
                out.append(_with_duration(old[begin:stop], 16, duration))
            elif kind == b"mdhd":
                out.append(_with_duration(old[begin:stop], 12, frames.ticks))
            elif kind not in _DROPPED:
                out.append(old[begin:stop])
        return b"".join(out)

    return _box(b"moov", build(_HEADER, len(old)))


def _with_duration(box: bytes, before: int, duration: int) -> bytes:
    """Put a duration into a box of version 0; `before` bytes of times and numbers precede it.

    It becomes one of version 1 where 32 bits do not hold the duration.
    """
    kind, body = box[4:8], box[_HEADER:]
    assert body[0] == 0
    created, changed = struct.unpack_from(">II", body, 4)
    between, after = body[12 : 4 + before], body[8 + before :]
    if duration < _LIMIT:
        times, length = struct.pack(">II", created, changed), struct.pack(">I", duration)
        return _box(kind, body[:4] + times + between + length + after)
    times, length = struct.pack(">QQ", created, changed), struct.pack(">Q", duration)
    return _box(kind, b"\x01" + body[1:4] + times + between + length + after)


def _table(frames: _Frames) -> bytes:
    """Return the boxes that say when and where every frame is."""
    offsets = [offset for offset, _ in frames.chunks]
    large = offsets[-1] >= _LIMIT
    runs = []  # (first chunk, frames in each), where the number of frames changes
    position = 1
    for count, group in groupby(count for _, count in frames.chunks):
        runs.append(struct.pack(">3I", position, count, 1))
        position += sum(1 for _ in group)
    keys = b""
    if len(frames.keys) < len(frames.sizes):
        keys = _full(b"stss", len(frames.keys), _numbers(frames.keys))
    times = b"".join(struct.pack(">II", *each) for each in frames.durations)
    return b"".join(
        (
            _full(b"stts", len(frames.durations), times),
            keys,
            _full(b"stsc", len(runs), b"".join(runs)),
            _box(b"stsz", struct.pack(">3I", 0, 0, len(frames.sizes)) + _numbers(frames.sizes)),
            _full(
                b"co64" if large else b"stco",
                len(offsets),
                struct.pack(f">{len(offsets)}{'Q' if large else 'I'}", *offsets),
            ),
        )
    )


def _inside(data: bytes, parent: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes inside the boxes of one kind inside the outermost box."""
    for kind, start, end in boxes(data, _HEADER):
        if kind == parent:
            yield from boxes(data, start + _HEADER, end)


def _find(data: bytes, wanted: bytes, start: int = _HEADER, end: int | None = None) -> int:
    """Return where a box of the header begins."""
    for kind, begin, stop in boxes(data, start, end):
        if kind == wanted:
            return begin
        if kind in _NESTED and (found := _find(data, wanted, begin + _HEADER, stop)) >= 0:
            return found
    return -1


def _cover(size: int) -> bytes:
    """Return the beginning of a box that holds all fragments."""
    if size + _HEADER < _LIMIT:
        return struct.pack(">I4s", size + _HEADER, b"mdat")
    return struct.pack(">I4sQ", 1, b"mdat", size + 2 * _HEADER)


def _numbers(values: array[int]) -> bytes:
    swapped = array(values.typecode, values)
    if struct.pack("=H", 1) != struct.pack(">H", 1):
        swapped.byteswap()
    return swapped.tobytes()


def _full(kind: bytes, count: int, rows: bytes) -> bytes:
    return _box(kind, struct.pack(">II", 0, count) + rows)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + _HEADER, kind) + body
