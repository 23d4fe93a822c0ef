"""Writing a file whole or not at all, numbers that two processes never share, and a lock."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PARTIAL = ".partial"


def write_durably(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file under another name, flush it to disk, and rename it.

    Args:
        path: The file; an existing one is replaced only once the new one is complete.
        write: Writes the whole content to the path it is given.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        write(partial)
        with partial.open("r+b") as written:  # some systems flush writable handles only
            os.fsync(written.fileno())
        patiently(lambda: os.replace(partial, path))
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    flush_folder(path.parent)


_Result = TypeVar("_Result")


def patiently(act: Callable[[], _Result], patience: float = 2.0) -> _Result:
    """Do something to a file that another process may hold for a moment.

    Windows refuses to replace a file that is being read, and to read one that is being replaced;
    other systems do both.

    Args:
        act: What to do.
        patience: Seconds to try it.

    Raises:
        OSError: If it fails for good.
    """
    deadline = time.monotonic() + (patience if sys.platform == "win32" else 0.0)
    while True:
        try:
            return act()
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def claim_numbered(folder: Path, name: Callable[[int], str], first: int = 1) -> Path:
    """Make an empty file with the first free number; no other process gets the same one.

    Whoever claims it fills it, with `write_durably` for one, or removes it.

    Args:
        folder: Where to make it; has to exist.
        name: Gives the file name of a number.
        first: The lowest number to try.

    Returns:
        The file that was made.

    Raises:
        OSError: If it cannot be made for any reason but that its name is taken.
    """
    for number in count(first):
        path = folder / name(number)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            break
    return path


@contextmanager
def locked(path: Path, patience: float = 60.0) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process dies.

    Args:
        path: The file; made when it is missing, and left there.
        patience: Seconds to wait for another holder.

    Raises:
        TimeoutError: If another one holds it all the time.
        OSError: If the file cannot be opened, or its file system knows no locks.
    """
    no_follow: int = getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | no_follow, 0o666)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path.name} is held by another process")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)  # and with it the lock


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # held by another: POSIX, Windows
        return False
    return True


def flush_folder(folder: Path) -> None:
    """Make a move last through a power failure, where the system can flush folders."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
