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

from .mp4_boxes import (
    HEADER,
    LIMIT,
    NESTED,
    box,
    boxes,
    children,
    edit_list,
    find,
    skipped_ticks,
    table,
    time_scale,
    with_duration,
)

Write = tuple[int, bytes]
"""Bytes to put at an offset of a file."""

_BYTES_A_FRAME = 8
_BYTES_A_SOUND = 4  # all of one length, and each a place to begin
_BYTES_A_PART = 20
_BESIDE = 4096  # the boxes of a track that do not grow
_MOST = 1 << 21
_NOT_SYNC = 0x10000
_DROPPED = (b"mvex", b"stts", b"stsc", b"stsz", b"stco", b"co64", b"stss")


@dataclass(slots=True)
class _Samples:
    """Where the samples of a track are, as MP4 calls its pictures and pieces of sound."""

    sizes: array[int] = field(default_factory=lambda: array("I"))
    durations: list[tuple[int, int]] = field(default_factory=list)  # (samples, ticks of each)
    keys: array[int] = field(default_factory=lambda: array("I"))  # counted from 1
    chunks: list[tuple[int, int]] = field(default_factory=list)  # (offset, samples)

    @property
    def ticks(self) -> int:
        return sum(count * ticks for count, ticks in self.durations)


def room_for_index(header: bytes, frames: int, parts: int, sounds: int = 0) -> bytes:
    """Return a free box that an index of so many frames fits into, up to a few MiB.

    Args:
        header: What comes before it in the file.
        frames: Frames to expect.
        parts: Parts to expect.
        sounds: Pieces of sound to expect, 0 for a silent video.
    """
    wanted = len(header) + _BESIDE + frames * _BYTES_A_FRAME + parts * _BYTES_A_PART
    if sounds:
        wanted += _BESIDE + sounds * _BYTES_A_SOUND + parts * _BYTES_A_PART
    return box(b"free", bytes(min(wanted, _MOST)))


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
    tracks: dict[int, _Samples] = {}
    for start, end in moofs:
        _collect(_read(file, start, end), start, old, tracks)
    moov = _moov(old, tracks)
    gap = first - old_end - HEADER - len(moov)
    cover = _cover(last - first)
    filler = gap - len(cover)
    if filler == 0 or filler >= HEADER:
        free = box(b"free", bytes(filler - HEADER)) if filler else b""
        yield old_end + HEADER, moov + free + cover
        yield begin, struct.pack(">I4s", old_end + HEADER - begin, b"free")
    else:
        yield last, moov
        yield begin, struct.pack(">I4sQ", 1, b"mdat", last - begin)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write until nothing is left: a nearly full disk takes a part and says so the next time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _top_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the whole boxes of a file without reading what is in them."""
    start, length = 0, file.seek(0, os.SEEK_END)
    while start + HEADER <= length:
        size, kind = struct.unpack(">I4s", _read(file, start, start + HEADER))
        if size == 1:
            (size,) = struct.unpack(">Q", _read(file, start + HEADER, start + 2 * HEADER))
        if size < HEADER or start + size > length:
            return
        yield kind, start, start + size
        start += size


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _collect(moof: bytes, offset: int, moov: bytes, tracks: dict[int, _Samples]) -> None:
    """Note the samples of a fragment, which begins at an offset of the file."""
    for _, traf, _ in (each for each in boxes(moof, HEADER) if each[0] == b"traf"):
        inside = list(children(moof, traf))
        header = next(start for kind, start, _ in inside if kind == b"tfhd")
        (track,) = struct.unpack_from(">I", moof, header + 12)
        defaults = _defaults(moof, header, moov, track)
        for kind, start, end in inside:
            if kind == b"trun":
                samples = tracks.setdefault(track, _Samples())
                _collect_run(moof[start:end], offset, defaults, samples)


def _defaults(moof: bytes, tfhd: int, moov: bytes, track: int) -> tuple[int, int, int]:
    """Return duration, size and flags of samples that do not say their own."""
    given = int.from_bytes(moof[tfhd + 9 : tfhd + 12], "big")
    mvex = next(begin for kind, begin, _ in boxes(moov, HEADER) if kind == b"mvex")
    trex = next(
        begin
        for kind, begin, _ in children(moov, mvex)
        if kind == b"trex" and struct.unpack_from(">I", moov, begin + 12) == (track,)
    )
    values = list(struct.unpack_from(">3I", moov, trex + 20))
    at = tfhd + 16 + 8 * bool(given & 0x1) + 4 * bool(given & 0x2)
    for index, bit in enumerate((0x8, 0x10, 0x20)):
        if given & bit:
            (values[index],) = struct.unpack_from(">I", moof, at)
            at += 4
    return values[0], values[1], values[2]


def _collect_run(
    trun: bytes, offset: int, defaults: tuple[int, int, int], samples: _Samples
) -> None:
    given = int.from_bytes(trun[9:12], "big")
    (count,) = struct.unpack_from(">I", trun, 12)
    numbers = iter(struct.unpack_from(f">{(len(trun) - 16) // 4}I", trun, 16))
    data = next(numbers) if given & 0x1 else 0
    first = next(numbers) if given & 0x4 else None
    samples.chunks.append((offset + data, count))
    for index in range(count):
        ticks = next(numbers) if given & 0x100 else defaults[0]
        size = next(numbers) if given & 0x200 else defaults[1]
        flags = next(numbers) if given & 0x400 else defaults[2]
        if given & 0x800:
            next(numbers)  # they are shown as they come: there is none but 0
        if index == 0 and first is not None:
            flags = first
        samples.sizes.append(size)
        if not flags & _NOT_SYNC:
            samples.keys.append(len(samples.sizes))
        if samples.durations and samples.durations[-1][1] == ticks:
            samples.durations[-1] = (samples.durations[-1][0] + 1, ticks)
        else:
            samples.durations.append((1, ticks))


def _moov(old: bytes, tracks: dict[int, _Samples]) -> bytes:
    """Return the header of a file in which these samples are all there are."""
    movie = find(old, b"mvhd", HEADER)
    shown = time_scale(old, movie)
    built = {
        begin: _track(old, begin, stop, tracks, shown)
        for kind, begin, stop in boxes(old, HEADER)
        if kind == b"trak"
    }
    out = []
    for kind, begin, stop in boxes(old, HEADER):
        if kind == b"mvhd":
            longest = max(length for length, _ in built.values())
            out.append(with_duration(old[begin:stop], 12, longest))
        elif kind == b"trak":
            out.append(built[begin][1])
        elif kind not in _DROPPED:
            out.append(old[begin:stop])
    return box(b"moov", b"".join(out))


def _track(
    old: bytes, trak: int, end: int, tracks: dict[int, _Samples], shown: int
) -> tuple[int, bytes]:
    """Return how long a track is played, in ticks of the movie, and its part of the header.

    That is nothing for one of which nothing is played.
    """
    (number,) = struct.unpack_from(">I", old, find(old, b"tkhd", trak + HEADER, end) + 20)
    samples = tracks.get(number, _Samples())
    scale = time_scale(old, find(old, b"mdhd", trak + HEADER, end))
    edits = find(old, b"edts", trak + HEADER, end)
    skipped = skipped_ticks(old, edits) if edits >= 0 else 0
    duration = -(-(samples.ticks - skipped) * shown // scale)
    if duration <= 0:
        return 0, b""

    def build(start: int, end: int) -> bytes:
        out = []
        for kind, begin, stop in boxes(old, start, end):
            if kind in NESTED:
                inner = build(begin + HEADER, stop)
                out.append(box(kind, inner + _table(samples) if kind == b"stbl" else inner))
            elif kind == b"tkhd":
                out.append(with_duration(old[begin:stop], 16, duration))
            elif kind == b"mdhd":
                out.append(with_duration(old[begin:stop], 12, samples.ticks))
            elif kind == b"edts":
                out.append(edit_list(skipped, duration))
            elif kind not in _DROPPED:
                out.append(old[begin:stop])
        return b"".join(out)

    return duration, build(trak, end)


def _table(samples: _Samples) -> bytes:
    """Return the boxes that say when and where every sample is."""
    offsets = [offset for offset, _ in samples.chunks]
    large = offsets[-1] >= LIMIT
    runs = []  # (first chunk, samples in each), where the number changes
    position = 1
    for count, group in groupby(count for _, count in samples.chunks):
        runs.append(struct.pack(">3I", position, count, 1))
        position += sum(1 for _ in group)
    keys = b""
    if len(samples.keys) < len(samples.sizes):
        keys = table(b"stss", len(samples.keys), _numbers(samples.keys))
    times = b"".join(struct.pack(">II", *each) for each in samples.durations)
    return b"".join(
        (
            table(b"stts", len(samples.durations), times),
            keys,
            table(b"stsc", len(runs), b"".join(runs)),
            box(b"stsz", struct.pack(">3I", 0, 0, len(samples.sizes)) + _numbers(samples.sizes)),
            table(
                b"co64" if large else b"stco",
                len(offsets),
                struct.pack(f">{len(offsets)}{'Q' if large else 'I'}", *offsets),
            ),
        )
    )


def _cover(size: int) -> bytes:
    """Return the beginning of a box that holds all fragments."""
    if size + HEADER < LIMIT:
        return struct.pack(">I4s", size + HEADER, b"mdat")
    return struct.pack(">I4sQ", 1, b"mdat", size + 2 * HEADER)


def _numbers(values: array[int]) -> bytes:
    swapped = array(values.typecode, values)
    if struct.pack("=H", 1) != struct.pack(">H", 1):
        swapped.byteswap()
    return swapped.tobytes()
