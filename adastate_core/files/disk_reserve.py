"""Disk space that is kept for what has to be written at the end."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import IO

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_STEP = 1 << 16


class DiskReserve:
    """Disk space in a folder, held by a file without a name that ends with the process.

    Args:
        folder: Where to keep it; has to be of the file system that will be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._released = False
        self.size = 0
        """Bytes that are kept."""

    def grow(self, size: int) -> None:
        """Keep at least so much space.

        Where it cannot be kept for another reason than a full disk, less is kept.

        Raises:
            OSError: If the disk is full; what was kept before still is.
        """
        if size <= self.size or self._released:
            return
        size = -(-size // _STEP) * _STEP
        try:
            self._fill(size)
        except OSError as error:
            if error.errno in _FULL:
                raise
            return
        self.size = size

    def release(self) -> None:
        """Free the space."""
        if self._file is not None:
            self._file.close()
        self._released, self.size = True, 0

    def _fill(self, size: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), self.size, size - self.size)
            return
        self._file.seek(self.size)
        for _ in range(self.size, size, _STEP):
            self._file.write(bytes(_STEP))
