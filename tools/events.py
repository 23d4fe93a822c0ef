"""What a server tells about a prompt: its progress, its result, or why it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


class PromptError(RuntimeError):
    """A prompt was refused or failed; says which node and why."""

    def __init__(
        self,
        message: str,
        *,
        node_errors: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.node_errors = dict(node_errors or {})
        self.details = dict(details or {})
        self.node_id: str | None = self.details.get("node_id")
        self.node_type: str | None = self.details.get("node_type")
        self.exception_type: str | None = self.details.get("exception_type")
        self.exception_message: str = self.details.get("exception_message", "").strip()
        self.traceback: str = "".join(self.details.get("traceback", []))
        super().__init__(message)


class PromptInterrupted(PromptError):
    """The prompt was cancelled while it ran."""


@dataclass(frozen=True)
class Preview:
    """An encoded preview image, as a node sent it while running."""

    node_id: str
    image: bytes = field(repr=False)


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is; an expanded child reports under the node it came from as well."""

    value: float
    maximum: float
    state: str
    display_node_id: str

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1."""
        if self.state == "finished":
            return 1.0
        return min(self.value / self.maximum, 1.0) if self.maximum else 0.0


@dataclass(frozen=True)
class Progress:
    """The state of a running prompt after one websocket event."""

    nodes: Mapping[str, NodeProgress]
    cached: frozenset[str]
    running: str | None
    preview: Preview | None = None

    def after(self, kind: str, data: Mapping[str, Any]) -> Progress:
        """Return the state after one more event; a preview belongs to its own event only."""
        if kind == "execution_cached":
            return replace(self, cached=frozenset(data["nodes"]), preview=None)
        if kind == "executing":
            return replace(self, running=data["node"], preview=None)
        if kind == "preview":
            return replace(self, preview=Preview(str(data["node_id"]), data["image"]))
        if kind == "progress_state":
            nodes = {
                node: NodeProgress(s["value"], s["max"], s["state"], str(s["display_node_id"]))
                for node, s in data["nodes"].items()
            }
            return replace(self, nodes=nodes, preview=None)
        return self


@dataclass(frozen=True)
class PromptResult:
    """What a finished prompt did."""

    prompt_id: str
    executed: tuple[str, ...]
    cached: frozenset[str]
    outputs: Mapping[str, Mapping[str, Any]]
    previews: tuple[Preview, ...]
    seconds: float

    def ran(self, node_id: str) -> bool:
        """Return whether the node, or a node it expanded into, was executed."""
        return any(n == node_id or n.startswith(f"{node_id}.") for n in self.executed)

    def files(self, base_dir: Path, node_id: str | None = None) -> list[Path]:
        """Return the files the prompt saved, in order, as paths under a server's base directory.

        Args:
            base_dir: The base directory the server was started with.
            node_id: Only this node's files.
        """
        return [
            base_dir / entry.get("type", "output") / entry.get("subfolder", "") / entry["filename"]
            for node, output in self.outputs.items()
            if node_id in (None, node)
            for entry in _file_entries(output)
        ]


def _file_entries(output: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in output.values():
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, dict) and "filename" in entry:
                yield entry
