"""One progress bar for a whole prompt, fed by the events of `ComfyClient.wait`."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

from tools.client import Prompt
from tools.events import NodeProgress, Progress

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


class PromptBar:
    """The progress of one prompt: a bar on a terminal, a line now and then elsewhere.

    Args:
        prompt: The API-format prompt that is run.
        stream: Where to draw.
    """

    def __init__(self, prompt: Prompt, stream: TextIO = sys.stdout) -> None:
        self._weights = {n: _WEIGHTS.get(v["class_type"], 1.0) for n, v in prompt.items()}
        self._titles = {
            n: (v.get("_meta") or {}).get("title", v["class_type"]) for n, v in prompt.items()
        }
        live = stream.isatty()
        self._bar = tqdm(
            total=100.0,
            file=stream,
            mininterval=0.1 if live else 5.0,
            dynamic_ncols=live,
            leave=live,
            bar_format="  {percentage:3.0f}% "
            + ("|{bar}| {elapsed} {desc}" if live else "{desc}\n"),
        )

    def update(self, progress: Progress) -> None:
        """Show the state after an event; usable as `on_progress`."""
        self._bar.set_description_str(self._label(progress), refresh=False)
        # An event may report less than the one before it, for instance when a node expands.
        self._bar.update(max(100.0 * self._fraction(progress) - self._bar.n, 0.0))

    def close(self) -> None:
        """Draw the finished bar and leave the line."""
        self._bar.set_description_str("done", refresh=False)
        self._bar.n = 100.0
        self._bar.refresh()
        self._bar.close()

    def _fraction(self, progress: Progress) -> float:
        done = sum(weight * _share(node, progress) for node, weight in self._weights.items())
        return done / (sum(self._weights.values()) or 1.0)

    def _label(self, progress: Progress) -> str:
        running = progress.nodes.get(progress.running or "")
        node = running.display_node_id if running else progress.running
        title = self._titles.get(node or "", "")
        return f"{title} {_count(running)}".strip()


def _share(node: str, progress: Progress) -> float:
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


def _count(node: NodeProgress | None) -> str:
    return f"{node.value:.0f}/{node.maximum:.0f}" if node and node.maximum > 1 else ""
