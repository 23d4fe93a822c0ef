"""What is shown of a named stream, read without its tensors and in a time that does not grow.

The manifest names the files, and the last line of the log says how far the stream is. A card is
read without checking every line against its digest, which takes an open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import AdaStateError
from .manifest import MANIFEST, Manifest, read_manifest
from .names import damaged, stream_folder
from .schema import ChunkModel, Refuse, validated
from .stream_log import LogLine

THUMBNAIL = "thumbnail.webp"
"""A moving picture of the newest chunk, if one was made; the stream does not need it."""

_TAILS = (1 << 16, 1 << 20, 1 << 26)
"""Bytes of the end of a log in which its newest chunk is looked for, one after the other."""


@dataclass(frozen=True, slots=True)
class StreamCard:
    """A named stream at a glance.

    Args:
        name: Its name.
        revision: How often it was committed; 0 if that cannot be read.
        chunks: How many chunks it has; None if that cannot be read.
        latent_frames: Content latent frames of them; None as well.
        latent_format: The host's name for the space of its latents, or an empty text.
        prompt: Text of the newest chunk's prompt, or an empty text.
        size: Bytes on disk.
        changed: When it was committed last, in seconds since 1970.
        thumbnail: When its moving picture was made, in nanoseconds; 0 if there is none.
        problem: Why it cannot be opened, or an empty text.
    """

    name: str
    revision: int = 0
    chunks: int | None = None
    latent_frames: int | None = None
    latent_format: str = ""
    prompt: str = ""
    size: int = 0
    changed: float = 0.0
    thumbnail: int = 0
    problem: str = ""


def read_card(root: Path, name: str) -> StreamCard | None:
    """Read the card of a stream; one that is damaged has a card that says so.

    Args:
        root: The folder of all streams.
        name: Name of the stream.

    Returns:
        None if there is no stream of this name.

    Raises:
        ConfigError: If it cannot be the name of a stream.
    """
    try:
        folder = stream_folder(root, name)
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        facts = _facts(folder, manifest) if isinstance(manifest, Manifest) else {}
        return StreamCard(name, manifest.revision, **facts, **_on_disk(folder))
    except (AdaStateError, OSError) as error:
        if isinstance(error, AdaStateError) and error.what == "name of the stream":
            raise
        on_disk = _on_disk(root / name) if not (root / name).is_symlink() else {}
        return StreamCard(name, problem=str(error), **on_disk)


def _facts(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Say how far the stream is, by the end of its log."""
    refuse = partial(damaged, folder.name)
    log = manifest.log
    for length in _TAILS:
        newest: LogLine | None = None
        for line in _newest_first(folder / log.file, log.size, length, refuse):
            newest = newest or line
            if newest.chunk_index == 0:
                return _values(newest, None)
            for entry in reversed(line.entries):
                if isinstance(entry, ChunkModel) and entry.index == newest.chunk_index - 1:
                    return _values(newest, entry)
        if newest is not None and length >= log.size:
            return _values(newest, None)
    return {}


def _newest_first(path: Path, size: int, length: int, refuse: Refuse) -> Iterator[LogLine]:
    begin = max(0, size - length)
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read(size - begin).splitlines()
    for line in reversed(lines[1:] if begin else lines):  # the first of them may lack its beginning
        yield validated(LogLine, line, lambda seen: refuse(f"a log with {seen}"))


def _values(line: LogLine, chunk: ChunkModel | None) -> dict[str, Any]:
    frames = chunk.config.chunk_frames if chunk else 0
    return {
        "chunks": line.chunk_index,
        "latent_frames": line.chunk_index * frames if chunk or not line.chunk_index else None,
        "latent_format": line.latent_format,
        "prompt": getattr(chunk, "prompt", "") or "",
    }


def _on_disk(folder: Path) -> dict[str, Any]:
    """Say what the files of a folder take, and when it changed."""
    size, changed, thumbnail = 0, 0.0, 0
    try:
        with os.scandir(folder) as files:
            for file in files:
                stat = file.stat(follow_symlinks=False)
                size += stat.st_size
                if file.name == MANIFEST:
                    changed = stat.st_mtime
                elif file.name == THUMBNAIL and file.is_file(follow_symlinks=False):
                    thumbnail = stat.st_mtime_ns
    except OSError:
        pass  # whatever is wrong with it is said by what reads it
    return {"size": size, "changed": changed, "thumbnail": thumbnail}
