"""The events of a long run as JSON Lines: one value a line, and valid after every one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .strict_json import strict_json

SUFFIX = ".jsonl"


class ReceiptFile:
    """One file of events.

    Args:
        path: The file; it must not exist.
        head: What holds for all events, as JSON values; the first line.

    Raises:
        OSError: If it cannot be written; nothing is left behind.
    """

    def __init__(self, path: Path, head: Mapping[str, object]) -> None:
        self.path = path
        self._end = 0
        path.open("xb").close()
        try:
            self.add(head)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def add(self, event: Mapping[str, object]) -> None:
        """Append a line.

        Raises:
            OSError: If it cannot be written; the file then ends with the line before.
        """
        line = memoryview(strict_json(event).encode() + b"\n")
        with self.path.open("r+b", buffering=0) as file:
            file.seek(self._end)
            try:
                written = 0
                # A nearly full disk takes a part, and says so the next time.
                while written < len(line):
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # the error to raise is why it could not be written
                    file.truncate(self._end)
                raise
        self._end += len(line)
