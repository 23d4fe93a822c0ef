"""One progress bar for a whole prompt, fed by the events of `client.ComfyClient.wait`."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tools.client import NodeProgress, Progress

# Generating takes nearly all of the time; the bar should not jump to half for loading a model.
_WEIGHTS = {
    "AdaStateStream": 60.0,
    "AdaStateStreamTimeline": 60.0,
    "AdaStateRender": 60.0,
    "KSampler": 60.0,
    "SamplerCustom": 60.0,
    "SamplerCustomAdvanced": 60.0,
    "AdaStateLoadDemo": 3.0,
    "AdaStateDecode": 6.0,
    "VAEDecode": 4.0,
}
_PLAIN_STEP = 0.1


class PromptBar:
    """Draw the progress of one prompt; a rewritten line on a terminal, a few lines elsewhere.

    Args:
        prompt: The API-format prompt that is run.
        stream: Where to draw.
    """

    def __init__(
        self, prompt: Mapping[str, Mapping[str, Any]], stream: TextIO = sys.stdout
    ) -> None:
        self._weights = {n: _WEIGHTS.get(v["class_type"], 1.0) for n, v in prompt.items()}
        self._titles = {
            n: (v.get("_meta") or {}).get("title", v["class_type"]) for n, v in prompt.items()
        }
        self._stream = stream
        self._live = stream.isatty()
        self._begin = time.monotonic()
        self._shown = 0.0
        self._next_plain = 0.0

    def update(self, progress: Progress) -> None:
        """Show the state after an event; usable as `on_progress`."""
        # An event may report less than the one before it, for instance when a node expands.
        self._shown = max(self._shown, self._fraction(progress))
        label = self._label(progress)
        if self._live:
            self._redraw(label)
        elif self._shown >= self._next_plain:
            print(f"  {self._shown:4.0%}  {label}", file=self._stream, flush=True)
            self._next_plain = self._shown + _PLAIN_STEP

    def close(self) -> None:
        """Draw the finished bar and leave the line."""
        self._shown = 1.0
        seconds = time.monotonic() - self._begin
        if self._live:
            self._redraw(f"{seconds:.0f} s")
            print(file=self._stream, flush=True)
        else:
            print(f"  100%  {seconds:.0f} s", file=self._stream, flush=True)

    def _fraction(self, progress: Progress) -> float:
        done = sum(weight * self._share(node, progress) for node, weight in self._weights.items())
        return done / (sum(self._weights.values()) or 1.0)

    def _share(self, node: str, progress: Progress) -> float:
        if node in progress.cached:
            return 1.0
        own = progress.nodes.get(node)
        # A node that expanded is as far as the nodes it became.
        parts = [
            part.fraction
            for name, part in progress.nodes.items()
            if part.display_node_id == node and name != node
        ]
        if parts and not (own and own.state == "finished"):
            return sum(parts) / (len(parts) + 1)
        return own.fraction if own else 0.0

    def _label(self, progress: Progress) -> str:
        running = progress.nodes.get(progress.running or "")
        node = running.display_node_id if running else progress.running
        title = self._titles.get(node or "", "")
        return f"{title} {_count(running)}".strip()

    def _redraw(self, label: str) -> None:
        width = shutil.get_terminal_size().columns
        room = max(width - 46, 10)
        filled = round(room * self._shown)
        bar = "#" * filled + "-" * (room - filled)
        line = f"  [{bar}] {self._shown:4.0%}  {label[:34]:<34}"
        print("\r" + line[: width - 1], end="", file=self._stream, flush=True)


def _count(node: NodeProgress | None) -> str:
    return f"{node.value:.0f}/{node.maximum:.0f}" if node and node.maximum > 1 else ""
