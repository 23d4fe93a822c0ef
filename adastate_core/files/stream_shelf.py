"""The folder of all named streams, as something to look through and to tidy up.

Everything here is a move of a whole folder, so that a crash leaves it at one place or the other. A
stream is moved while its lock is held, so no commit is torn; a commit that comes later finds
another stream or none, and is refused as `named_stream` does. Names that begin with a dot are no
names of streams: beside the streams there are the lock of the shelf, copies that are not complete,
and the bin.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import ConfigError, StateFileError
from .atomic import flush_folder, locked, patiently
from .manifest import MANIFEST, Manifest, read_manifest, write_manifest
from .named_stream import LOCK
from .names import check_name, damaged, stream_folder
from .stream_card import THUMBNAIL, StreamCard, read_card
from .stream_log import chained, read_lines

SHELF_LOCK = ".shelf.lock"
PATIENCE = 10.0
"""Seconds to wait for a commit to finish."""

_COPY = ".fork."


def list_streams(root: Path) -> list[StreamCard]:
    """Return the cards of all streams, the one that changed last first."""
    cards = []
    for name in _names(root):
        card = read_card(root, name)
        if card is not None:
            cards.append(card)
    return sorted(cards, key=lambda card: (-card.changed, card.name))


def fork_stream(root: Path, name: str, new_name: str) -> StreamCard:
    """Copy a stream under a new name; both go on from here.

    Args:
        root: The folder of all streams.
        name: The stream.
        new_name: Name of the copy.

    Returns:
        The card of the copy.

    Raises:
        ConfigError: If a name cannot be used, or is taken.
        StateFileError: If there is no such stream, or it is damaged, busy, or cannot be copied.
    """
    with shelf(root, name):
        source = existing(root, name)
        target = free_folder(root, new_name)
        copy = root / f"{_COPY}{secrets.token_hex(8)}"
        try:
            with locked(source / LOCK, PATIENCE):
                _copy(source, copy)
            os.rename(copy, target)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        flush_folder(root)
        return _card(root, target.name)


def rename_stream(root: Path, name: str, new_name: str) -> StreamCard:
    """Give a stream another name.

    What was opened under the old name can no longer be committed there: such a commit is refused,
    and its chunks are kept in a file.

    Args:
        root: The folder of all streams.
        name: The stream.
        new_name: The other name.

    Returns:
        The card of the stream under its other name.

    Raises:
        ConfigError: If a name cannot be used, or is taken.
        StateFileError: If there is no such stream, or it is busy, or cannot be moved.
    """
    with shelf(root, name):
        source = existing(root, name)
        target = free_folder(root, new_name, source)
        move(source, target)
        return _card(root, target.name)


@contextmanager
def shelf(root: Path, name: str) -> Iterator[None]:
    """Change the shelf with nobody else doing so, and tell failures of the disk in plain words.

    Args:
        root: The folder of all streams.
        name: The stream that it is about.

    Raises:
        StateFileError: If the lock cannot be had, or anything cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / SHELF_LOCK, PATIENCE):
            for left in root.glob(f"{_COPY}*"):
                shutil.rmtree(left, ignore_errors=True)  # by a copy that was cut short
            yield
    except TimeoutError as error:
        raise StateFileError(
            f"stream {name!r}",
            problem=f'"{name}" is being written right now',
            seen=str(error),
            expected="a moment without a commit",
            remedy="try again in a moment, or stop the run that writes it",
        ) from error
    except OSError as error:
        raise StateFileError(
            f"stream {name!r}",
            problem=f'"{name}" stays as it was, because the disk refused: {error.strerror}',
            seen=str(error),
            expected="a writable folder with free space",
            remedy="free space, or make the streams folder writable",
        ) from error


def existing(root: Path, name: str) -> Path:
    """Return the folder of a stream that exists.

    Raises:
        ConfigError: If it cannot be the name of a stream.
        StateFileError: If there is none, or it is a link or a file.
    """
    folder = stream_folder(root, name)
    if folder.is_symlink():
        raise damaged(name, "a link in place of its folder")
    if not folder.is_dir():
        raise StateFileError(
            f"stream {name!r}",
            problem=f'there is no stream "{name}" any more',
            seen="no folder",
            expected="a stream",
            remedy="refresh the list of streams",
        )
    return folder


def free_folder(root: Path, name: str, same: Path | None = None) -> Path:
    """Return the folder of a name that nothing else has.

    Args:
        root: The folder of all streams.
        name: The name.
        same: A folder that may have it in another spelling, where the system sees no difference.

    Raises:
        ConfigError: If the name cannot be used, or is taken.
    """
    target = root / check_name(name)
    taken = os.path.lexists(target)
    if taken and same is not None and target.name != same.name and target.exists():
        taken = not target.samefile(same)
    if taken:
        raise ConfigError(
            "name of the stream",
            problem=f'there is a stream "{target.name}" already',
            seen=repr(target.name),
            expected="a name that is free",
            remedy="choose another name",
        )
    return target


def move(source: Path, target: Path) -> None:
    """Move the folder of a stream while no commit is under way.

    Raises:
        OSError: If it cannot be moved.
    """
    with locked(source / LOCK, PATIENCE):
        if sys.platform != "win32":
            os.rename(source, target)
    if sys.platform == "win32":  # which moves no folder while a file in it is open
        patiently(lambda: os.rename(source, target))
    for parent in {source.parent, target.parent}:
        flush_folder(parent)


def _copy(source: Path, copy: Path) -> None:
    """Copy what belongs to the newest revision, as a stream with an id of its own.

    Raises:
        OSError: If it cannot be copied.
        StateFileError: If it is damaged.
    """
    refuse = partial(damaged, source.name)
    manifest = read_manifest(source)
    if manifest is None:
        raise refuse(f"no {MANIFEST}")
    copy.mkdir()
    for file, size in manifest.files.items():
        with (source / file).open("rb") as old, (copy / file).open("xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.truncate(size)
            new.flush()
            os.fsync(new.fileno())
    if (source / THUMBNAIL).is_file() and not (source / THUMBNAIL).is_symlink():
        with suppress(OSError):
            shutil.copyfile(source / THUMBNAIL, copy / THUMBNAIL)
    if not isinstance(manifest, Manifest):
        shutil.copyfile(source / MANIFEST, copy / MANIFEST)  # the next commit writes all anew
        return
    stream = secrets.token_hex(16)
    before, after = manifest.stream, stream
    for line in read_lines(copy / manifest.log.file, 0, manifest.log.size):
        before, after = chained(before, line), chained(after, line)
    if before != manifest.chain:
        raise refuse(f"{manifest.log.file} that differs from its digest")
    write_manifest(copy, manifest.model_copy(update={"stream": stream, "chain": after}))


def _names(root: Path) -> list[str]:
    """Return the names of what may be streams, links left out."""
    found = []
    with suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            with suppress(ConfigError):
                if check_name(entry.name) == entry.name:
                    found.append(entry.name)
    return found


def _card(root: Path, name: str) -> StreamCard:
    return read_card(root, name) or StreamCard(name)
