"""The nodes that Stream Timeline expands into: those an artist would have wired by hand.

A child gets constants (its text, the seed) and links to what the timeline's node is wired to, so
ComfyUI's cache knows each chunk by what it depends on: after an edit of chunk 7, chunks 0 to 6 stay
as they are.

ComfyUI looks at all that comes before a node to know it again, which for a chain of steps takes a
time that grows with the square of their number. So late chunks share a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ..adastate_core.stream.pace import Pace
from ..adastate_core.stream.state import StreamState
from ..adastate_core.stream.timeline import ChunkPrompt
from .panel.panel_document import RunPlan
from .panel.panels import PANELS
from .panel.place import place_of
from .progress import write_under

FIRST_SHARED = 128
"""First chunk that may share a step with others."""
SHARED_CHUNKS = 8
"""Chunks of such a step. It ends at a multiple of them, so that no edit moves the steps before."""

Link = list[Any]
"""A node's id and the number of one of its outputs."""


class TimelineGraph(GraphBuilder):
    """A chain of steps.

    Args:
        wired: Inputs of the timeline's node: constants, and links to where the others come from.
        sampling: Ids of the inputs that every step gets as the timeline's node has them.
    """

    def __init__(self, wired: Mapping[str, Any], sampling: Sequence[str]) -> None:
        super().__init__()
        self._clip: Link = wired["clip"]
        self._sampling = {name: wired[name] for name in (*sampling, "vae") if name in wired}
        self.state: Link = wired["state"]
        """The stream after the last step so far."""

    def add_steps(self, plan: list[ChunkPrompt]) -> None:
        """Add the steps of a plan."""
        for prompts in group_steps(plan):
            self._add_step(prompts[0], len(prompts))

    def read_content(self, first_chunk: int) -> Link:
        """Add a node that reads the frames from a chunk on, and return them."""
        read = self.node("AdaStateRead", state=self.state, first_chunk=first_chunk)
        link: Link = read.out(2)
        return link

    def _add_step(self, prompt: ChunkPrompt, chunks: int) -> None:
        """Add a step of chunks, with ids that stay the same when the timeline is edited."""
        number = prompt.chunk
        if prompt.transition != "swap":
            edit = self.node(
                "AdaStateTransition",
                f"change{number}",
                state=self.state,
                transition=prompt.transition,
                frames=prompt.count,
            )
            self.state = edit.out(0)
        inputs = {
            **self._sampling,
            "state": self.state,
            "positive": self._positive(prompt),
            "chunks": chunks,
        }
        self.state = self.node("AdaStateStream", f"chunk{number}", **inputs).out(0)

    def _positive(self, prompt: ChunkPrompt) -> Link:
        text = self._encode_text(prompt.text)
        if prompt.before is None:
            return text
        mixed = self.node(
            "ConditioningAverage",
            f"blend{prompt.chunk}",
            conditioning_to=text,
            conditioning_from=self._encode_text(prompt.before),
            conditioning_to_strength=prompt.share,
        )
        link: Link = mixed.out(0)
        return link

    def _encode_text(self, text: str) -> Link:
        # One node for each text, however many chunks it lasts.
        name = f"text{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        link: Link = self.node("CLIPTextEncode", name, text=text, clip=self._clip).out(0)
        return link


def open_timeline(hidden: io.HiddenHolder, state: StreamState, pace: Pace, chunks: int) -> None:
    """Open the panel of a timeline's node for all its steps, which find it there.

    Args:
        hidden: Hidden inputs of the node.
        state: The stream so far.
        pace: How long chunks are.
        chunks: Chunks of all steps.
    """
    place = place_of(hidden)
    if place is None:
        return
    first = state.chunk_index
    plan = RunPlan(first, chunks, pace)
    # Which chunks are still part of the stream is known when the first step runs: ComfyUI may have
    # kept what the ones before it made.
    words = pace.describe(chunks, begins=state.next_frame == 0)
    PANELS.feed(place.workflow, place.node).begin(place.run, plan, words, None)
    write_under(place.node, words)


def group_steps(plan: list[ChunkPrompt]) -> Iterator[list[ChunkPrompt]]:
    """Yield the chunks of each step: late ones in a row that differ in nothing but their number."""
    step: list[ChunkPrompt] = []
    for prompt in plan:
        if step and not _continues(prompt, step[0]):
            yield step
            step = []
        step.append(prompt)
    if step:
        yield step


def _continues(prompt: ChunkPrompt, first: ChunkPrompt) -> bool:
    """Say whether a chunk may share the step that another one begins."""
    late = prompt.chunk >= FIRST_SHARED and prompt.chunk % SHARED_CHUNKS != 0
    plain = prompt.before is None and prompt.transition == "swap"
    return late and plain and first.before is None and first.text == prompt.text
