"""What a server tells about a prompt: its progress, its result, or why it failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


class PromptError(RuntimeError):
    """A prompt that was refused or failed, with the node and the reason.

    Args:
        message: One sentence for a person.
        node_errors: What the server refused, by node.
        details: What the server told about the node that failed.
    """

    def __init__(
        self,
        message: str,
        *,
        node_errors: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.node_errors = dict(node_errors or {})
        self.node_id: str | None = (details or {}).get("node_id")
        self.exception_message: str = (details or {}).get("exception_message", "").strip()


class PromptInterrupted(PromptError):
    """A prompt that was cancelled while it ran."""


@dataclass(frozen=True)
class Preview:
    """An encoded preview image, as a node sent it while running."""

    node_id: str
    image: bytes = field(repr=False)


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is; an expanded child also names the node that it came from."""

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
    """The state of a running prompt after some of its events."""

    nodes: Mapping[str, NodeProgress] = field(default_factory=dict)
    cached: frozenset[str] = frozenset()
    executed: tuple[str, ...] = ()
    running: str | None = None

    def after(self, kind: str, data: Mapping[str, Any]) -> Progress:
        """Return the state after one more event."""
        if kind == "execution_cached":
            return replace(self, cached=frozenset(data["nodes"]))
        if kind == "executing":
            node = data["node"]
            executed = self.executed if node in self.executed else (*self.executed, node)
            return replace(self, executed=executed, running=node)
        if kind == "progress_state":
            nodes = {
                node: NodeProgress(s["value"], s["max"], s["state"], str(s["display_node_id"]))
                for node, s in data["nodes"].items()
            }
            return replace(self, nodes=nodes)
        return self


@dataclass(frozen=True)
class PromptResult:
    """What a finished prompt did."""

    executed: tuple[str, ...]
    cached: frozenset[str]
    outputs: Mapping[str, Mapping[str, Any]]
    previews: tuple[Preview, ...]

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
