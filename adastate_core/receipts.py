"""Receipts of a long run in a JSON file that is whole after every one of them.

The file is one object whose last member is the list of receipts. A receipt is put in by writing
over the end, so that the cost of one does not depend on how many there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_BEGIN, _END = ', "receipts": [\n', "\n]}\n"


class ReceiptFile:
    """Write one file of receipts.

    Args:
        path: The file; it must not exist.
        head: What holds for all receipts, as JSON values.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, head: Mapping[str, object]) -> None:
        self.path = path
        text = json.dumps(head)[:-1] + _BEGIN
        self._end = len(text.encode())
        self._empty = True
        with path.open("xb") as file:
            file.write((text + _END).encode())

    def add(self, receipt: Mapping[str, object]) -> None:
        """Append a receipt.

        Raises:
            OSError: If it cannot be written.
        """
        text = ("" if self._empty else ",\n") + json.dumps(receipt)
        with self.path.open("r+b") as file:
            file.seek(self._end)
            file.write((text + _END).encode())
        self._end += len(text.encode())
        self._empty = False
