"""The boxes that an MP4 is made of: found, read and written."""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = 8
"""Bytes in front of what is in a box."""
LIMIT = 1 << 32
"""What 32 bits no longer hold."""
NESTED = (b"trak", b"mdia", b"minf", b"stbl")
"""Boxes of a header that hold what is looked for."""


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of the boxes of an MP4, or of those in a part of it."""
    end = len(data) if end is None else end
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        yield kind, start, start + size
        start += size


def children(data: bytes, box: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes that are in the box at an offset."""
    (size,) = struct.unpack_from(">I", data, box)
    yield from boxes(data, box + HEADER, box + size)


def find(data: bytes, wanted: bytes, start: int, end: int | None = None) -> int:
    """Return where a box of a header begins, or -1; it may be in others from the start on."""
    for kind, begin, stop in boxes(data, start, end):
        if kind == wanted:
            return begin
        if kind in NESTED and (found := find(data, wanted, begin + HEADER, stop)) >= 0:
            return found
    return -1


def box(kind: bytes, body: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", len(body) + HEADER, kind) + body


def table(kind: bytes, count: int, rows: bytes) -> bytes:
    """Return a box with a number of rows."""
    return box(kind, struct.pack(">II", 0, count) + rows)


def time_scale(data: bytes, at: int) -> int:
    """Return how many ticks a second the box at an offset, an mvhd or mdhd, counts."""
    (scale,) = struct.unpack_from(">I", data, at + (20 if data[at + HEADER] == 0 else 28))
    return int(scale)


def with_duration(old: bytes, before: int, duration: int) -> bytes:
    """Put a duration into a box of version 0; `before` bytes of times and numbers precede it.

    It becomes one of version 1 where 32 bits do not hold the duration.
    """
    kind, body = old[4:8], old[HEADER:]
    assert body[0] == 0
    created, changed = struct.unpack_from(">II", body, 4)
    between, after = body[12 : 4 + before], body[8 + before :]
    if duration < LIMIT:
        times, length = struct.pack(">II", created, changed), struct.pack(">I", duration)
        return box(kind, body[:4] + times + between + length + after)
    times, length = struct.pack(">QQ", created, changed), struct.pack(">Q", duration)
    return box(kind, b"\x01" + body[1:4] + times + between + length + after)


def edit_list(skipped: int, duration: int = 0) -> bytes:
    """Return the box that has a track begin later than what is in it.

    Args:
        skipped: Ticks of the track that are not played.
        duration: Ticks of the movie that are; 0 stands for all, in a file that still grows.
    """
    long = duration >= LIMIT
    entry = struct.pack(">Qq" if long else ">Ii", duration, skipped)
    return box(b"edts", box(b"elst", struct.pack(">II", long << 24, 1) + entry + b"\0\1\0\0"))


def skipped_ticks(data: bytes, edts: int) -> int:
    """Return how many ticks the edit list at an offset skips."""
    elst = edts + HEADER
    long = data[elst + HEADER] == 1
    (skipped,) = struct.unpack_from(">q" if long else ">i", data, elst + 16 + (8 if long else 4))
    return int(skipped)


def with_edit_list(moov: bytes, track: int, skipped: int) -> bytes:
    """Return a header in which a track, counted from 0, begins later."""
    out, count = [], 0
    for kind, start, end in boxes(moov, HEADER):
        if kind == b"trak" and count == track:
            parts = [moov[begin:stop] for _, begin, stop in boxes(moov, start + HEADER, end)]
            out.append(box(kind, parts[0] + edit_list(skipped) + b"".join(parts[1:])))
        else:
            out.append(moov[start:end])
        count += kind == b"trak"
    return box(b"moov", b"".join(out))
