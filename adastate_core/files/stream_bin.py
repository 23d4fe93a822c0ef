"""The bin of the streams folder: a deleted stream stays in it until it is deleted for good.

Every stream in it is in a folder of its own, its slot, since several may have had one name. A slot
that is empty is what a move that was cut short has left.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import AdaStateError, StateFileError
from .atomic import flush_folder
from .names import check_name
from .stream_card import StreamCard, read_card
from .stream_shelf import existing, free_folder, move, shelf

BIN = ".bin"
_SLOT = re.compile(r"(\d{1,14})-[0-9a-f]{16}", re.ASCII)
_GONE = "gone-"


@dataclass(frozen=True, slots=True)
class BinnedStream:
    """A stream in the bin.

    Args:
        slot: What it is called there.
        deleted: When it was put there, in seconds since 1970.
        card: The stream.
    """

    slot: str
    deleted: float
    card: StreamCard


def list_bin(root: Path) -> list[BinnedStream]:
    """Return what is in the bin, newest first."""
    found = []
    with suppress(OSError):
        for path in [] if (root / BIN).is_symlink() else list((root / BIN).iterdir()):
            slot = _SLOT.fullmatch(path.name)
            name = _name_in(path)
            if slot and name:
                card = read_card(path, name) or StreamCard(name)
                found.append(BinnedStream(path.name, float(slot[1]), card))
    return sorted(found, key=lambda each: (-each.deleted, each.slot))


def delete_stream(root: Path, name: str) -> str:
    """Move a stream into the bin.

    Args:
        root: The folder of all streams.
        name: The stream; it may be damaged.

    Returns:
        The slot, for `restore_stream`.

    Raises:
        ConfigError: If the name cannot be used.
        StateFileError: If there is no such stream, or it is busy, or cannot be moved.
    """
    with shelf(root, name):
        source = existing(root, name)
        slot = _bin(root) / f"{int(time.time())}-{secrets.token_hex(8)}"
        slot.mkdir(parents=True)
        try:
            move(source, slot / source.name)
        except BaseException:
            with suppress(OSError):
                slot.rmdir()
            raise
        return slot.name


def restore_stream(root: Path, slot: str, new_name: str = "") -> StreamCard:
    """Move a stream out of the bin.

    Args:
        root: The folder of all streams.
        slot: What it is called in the bin.
        new_name: Its name from now on; empty for the one it had.

    Returns:
        Its card.

    Raises:
        ConfigError: If the name cannot be used, or is taken.
        StateFileError: If it is not in the bin, or cannot be moved.
    """
    with shelf(root, "bin"):
        path, name = _in_slot(root, slot)
        target = free_folder(root, new_name or name)
        move(path / name, target)
        with suppress(OSError):
            path.rmdir()
        return read_card(root, target.name) or StreamCard(target.name)


def purge_stream(root: Path, slot: str) -> None:
    """Delete a stream in the bin for good.

    Raises:
        StateFileError: If it is not in the bin, or cannot be deleted.
    """
    with shelf(root, "bin"):
        path, _ = _in_slot(root, slot)
        gone = path.with_name(f"{_GONE}{secrets.token_hex(8)}")
        os.rename(path, gone)  # so that no half of it is ever listed
        flush_folder(gone.parent)
        for left in gone.parent.glob(f"{_GONE}*"):
            if not left.is_symlink():
                shutil.rmtree(left)


def _bin(root: Path) -> Path:
    """Return the folder of the bin, which need not exist.

    Raises:
        StateFileError: If it is a link.
    """
    folder = root / BIN
    if folder.is_symlink():
        raise StateFileError(
            "bin of the streams",
            problem=f'"{BIN}" in the streams folder is a link',
            seen="a link",
            expected="a folder, or nothing",
            remedy="remove the link",
        )
    return folder


def _in_slot(root: Path, slot: str) -> tuple[Path, str]:
    """Return the folder of a slot, and the name of the stream in it.

    Raises:
        StateFileError: If there is no such slot, or no stream in it.
    """
    path = _bin(root) / slot if isinstance(slot, str) and _SLOT.fullmatch(slot) else None
    name = _name_in(path) if path is not None else ""
    if path is None or not name:
        raise StateFileError(
            "bin of the streams",
            problem="this stream is not in the bin any more",
            seen=ascii(slot)[:80],
            expected="a stream in the bin",
            remedy="refresh the bin",
        )
    return path, name


def _name_in(slot: Path) -> str:
    """Return the name of the stream in a slot; empty if there is none, or anything is a link."""
    if slot.is_symlink() or not slot.is_dir():
        return ""
    with suppress(OSError, AdaStateError):
        for path in slot.iterdir():
            if path.is_dir() and not path.is_symlink():
                return check_name(path.name)
    return ""
