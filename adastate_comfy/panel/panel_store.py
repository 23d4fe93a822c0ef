"""The files of a panel below ComfyUI's temp folder, which ComfyUI empties when it starts.

One line of JSON for each chunk is appended, so that a chunk costs the same however many came
before; the head is a small file of its own. A chunk's pictures take some ten kilobytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import folder_paths

from .panel_document import ChunkEntry

_FOLDER = "adastate/panels"
_CHUNKS = "chunks.jsonl"
_HEAD = "head.json"


class PanelStore:
    """The files of one panel.

    Args:
        workflow: Id of the workflow.
        node: Id of the node.
    """

    def __init__(self, workflow: str, node: str) -> None:
        name = hashlib.sha256(f"{workflow}\n{node}".encode()).hexdigest()[:16]
        self.folder = f"{_FOLDER}/{name}"
        """The folder below the temp folder, as `/view` wants it."""

    @property
    def path(self) -> Path:
        """Return the folder."""
        return Path(folder_paths.get_temp_directory()) / self.folder

    def write(self, name: str, data: bytes) -> None:
        """Write a picture."""
        self._made().joinpath(name).write_bytes(data)

    def append(self, entry: ChunkEntry) -> None:
        """Add the line of a chunk."""
        with self._made().joinpath(_CHUNKS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry.to_json()) + "\n")

    def rewrite(self, chunks: list[ChunkEntry]) -> None:
        """Begin again with these chunks."""
        lines = [json.dumps(entry.to_json()) + "\n" for entry in chunks]
        self._made().joinpath(_CHUNKS).write_text("".join(lines), encoding="utf-8")

    def write_head(self, head: dict[str, Any]) -> None:
        """Write all but the chunks."""
        self._made().joinpath(_HEAD).write_text(json.dumps(head), encoding="utf-8")

    def chunks(self) -> list[ChunkEntry]:
        """Read the chunks; what cannot be read is left out."""
        found: list[ChunkEntry] = []
        try:
            lines = self.path.joinpath(_CHUNKS).read_text(encoding="utf-8").splitlines()
            found.extend(ChunkEntry.from_json(json.loads(line)) for line in lines)
        except (OSError, ValueError, TypeError, KeyError):
            return found
        return found

    def head(self) -> dict[str, Any] | None:
        """Read all but the chunks, or None."""
        try:
            head: dict[str, Any] = json.loads(self.path.joinpath(_HEAD).read_bytes())
        except (OSError, ValueError):
            return None
        return head

    def remove(self, names: list[str]) -> None:
        """Remove pictures that no chunk shows any more."""
        for name in names:
            self.path.joinpath(name).unlink(missing_ok=True)

    def _made(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path
