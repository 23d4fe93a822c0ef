"""Stream Timeline: one step for every chunk, each under the prompt that the timeline gives it.

The node expands into the nodes an artist would have wired by hand. A child gets constants (its
text, the seed) and links to what this node is wired to, so ComfyUI's cache knows each chunk by
what it depends on: after an edit of chunk 7, chunks 0 to 6 stay as they are.

ComfyUI describes a node to its cache by all nodes before it, so a chain of n steps costs n x n. A
long timeline therefore expands into blocks of a few chunks, each of which is this node again and
expands into the steps: to a step, an earlier block is one node. ComfyUI's default cache drops what
nothing has asked for yet after every node, the steps of a block to come too, so there an edit runs
again from the beginning of its block.
"""

from __future__ import annotations

import hashlib
import json
from itertools import groupby
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ..adastate_core.errors import ConfigError
from ..adastate_core.state import StreamState
from ..adastate_core.timeline import ChunkPrompt, Pace, parse_timeline, plan_prompts
from .bridge import binding_of
from .sockets import CATEGORY, state_output
from .stream import AdaStateStream

DEFAULT = "0: a red circle moves left"
_PROMPTS = "prompts"
"""Input of a block: JSON of links by the number of the chunk that begins with each."""
_SHORT = 100
"""Chunks up to which a timeline is one chain."""
_BLOCK = 20
"""Chunks of a block. Counted from the start of the stream, so that edits do not move its ends."""


class AdaStateStreamTimeline(io.ComfyNode):
    """Generate chunks under prompts that change on the way."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare inputs and outputs: those of Stream Chunks, with a timeline for the prompt."""
        shared = {item.id: item for item in AdaStateStream.define_schema().inputs}
        return io.Schema(
            node_id="AdaStateStreamTimeline",
            display_name="Stream Timeline",
            category=CATEGORY,
            description="Generate chunks under prompts that change on the way.",
            search_aliases=["prompt schedule", "prompt travel", "storyboard"],
            inputs=[
                shared["model"],
                shared["state"],
                io.Clip.Input("clip", tooltip="The text encoder of the model."),
                io.String.Input(
                    "timeline",
                    multiline=True,
                    default=DEFAULT,
                    socketless=True,
                    tooltip=(
                        "A line for every prompt: when it begins, how, and the prompt.\n"
                        "0: a red circle moves left\n"
                        "chunk 4 blend 2: a red circle moves right\n"
                        "6.5s recache: a blue square in the fog\n"
                        "1:10: a green square on a hill\n"
                        "Chunk numbers count from the start of the stream. blend mixes over some "
                        "chunks, recache reads the memory again under the new prompt, flush 1 "
                        "keeps the anchor and the newest frame."
                    ),
                ),
                shared["negative"],
                *(shared[name] for name in ("cfg", "sampler", "sigmas", "seed")),
                io.Int.Input(
                    "chunks",
                    default=12,
                    min=1,
                    max=1000,
                    tooltip="How many chunks to add. Each is a step that ComfyUI keeps.",
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second of the video, for lines that give a time.",
                ),
                shared["model_low_noise"],
                shared["switch_sigma"],
            ],
            outputs=[
                state_output("The stream after these chunks."),
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The frames of these chunks, as far as the stream remembers them.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(cls, timeline: str) -> bool | str:
        """Read the timeline before anything runs."""
        try:
            parse_timeline(timeline)
        except ConfigError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, model: Any, state: StreamState, timeline: str, chunks: int, fps: float, **_: Any
    ) -> io.NodeOutput:
        """Plan the chunks and expand into blocks, or as a block into steps."""
        wired = cls.hidden.dynprompt.get_node(cls.hidden.unique_id)["inputs"]
        binding = binding_of(model)
        pace = Pace(binding.config.chunk_frames, binding.traits.time_stride, fps)
        plan = plan_prompts(parse_timeline(timeline), pace, state.chunk_index, chunks)
        graph = _Graph(wired)
        if _PROMPTS in wired:
            graph.add_steps(plan, json.loads(wired[_PROMPTS]))
            return io.NodeOutput(graph.state, None, expand=graph.finalize())
        if chunks <= _SHORT:
            graph.add_steps(plan, graph.prompts(plan))
        else:
            for _, block in groupby(plan, lambda prompt: prompt.chunk // _BLOCK):
                graph.add_block(list(block))
        read = graph.node("AdaStateRead", state=graph.state, first_chunk=state.chunk_index)
        return io.NodeOutput(graph.state, read.out(2), expand=graph.finalize())


class _Graph(GraphBuilder):
    """Build the chain of blocks, or of the steps of one.

    Ids stay the same when the timeline is edited.

    Args:
        wired: Inputs of the node: constants, and links to where the others come from. A block has
            one more, where its prompts come from.
    """

    def __init__(self, wired: dict[str, Any]) -> None:
        super().__init__()
        self._wired = wired
        self.state = wired["state"]
        names = {item.id for item in AdaStateStream.define_schema().inputs}
        self._step = {k: v for k, v in wired.items() if k in names and k not in ("chunks", "state")}

    def add_block(self, plan: list[ChunkPrompt]) -> None:
        """Add the node of some chunks, with all that their steps depend on and nothing else."""
        # Prompts are encoded outside of the block, each once; the text says what comes with them.
        lines = [f"chunk {plan[0].chunk}: -"] if plan[0].transition == "swap" else []
        for prompt in plan:
            if prompt.transition != "swap":
                count = f" {prompt.count}" if prompt.count else ""
                lines.append(f"chunk {prompt.chunk} {prompt.transition}{count}: -")
        block = self.node(
            "AdaStateStreamTimeline", f"block{plan[0].chunk // _BLOCK}",
            **self._step, state=self.state, clip=self._wired["clip"], timeline="\n".join(lines),
            chunks=len(plan), fps=1.0, **{_PROMPTS: json.dumps(self.prompts(plan))},
        )  # fmt: skip
        self.state = block.out(0)

    def add_steps(self, plan: list[ChunkPrompt], prompts: dict[str, Any]) -> None:
        """Add the steps of some chunks, under what `prompts` has returned."""
        positive: Any = None
        for prompt in plan:
            positive = prompts.get(str(prompt.chunk), positive)
            self._add_step(prompt, positive)

    def _add_step(self, prompt: ChunkPrompt, positive: list[Any]) -> None:
        number = prompt.chunk
        if prompt.transition != "swap":
            edit = self.node(
                "AdaStateTransition", f"change{number}", state=self.state,
                transition=prompt.transition, frames=prompt.count,
            )  # fmt: skip
            self.state = edit.out(0)
        inputs = {"state": self.state, "positive": positive, "chunks": 1}
        step = self.node("AdaStateStream", f"chunk{number}", **{**self._step, **inputs})
        self.state = step.out(0)

    def prompts(self, plan: list[ChunkPrompt]) -> dict[str, Any]:
        """Return links to the prompts, by the numbers of the chunks that begin with them."""
        links = [self._positive(prompt) for prompt in plan]
        return {
            str(prompt.chunk): link
            for prompt, link, before in zip(plan, links, (None, *links), strict=False)
            if link != before
        }

    def _positive(self, prompt: ChunkPrompt) -> list[Any]:
        text = self._encoded(prompt.text)
        if prompt.before is None:
            return text
        # Named after all that it is made of: a block knows its prompts by name.
        mixed = self.node(
            "ConditioningAverage", _named("blend", prompt.text, prompt.before, str(prompt.share)),
            conditioning_to=text, conditioning_from=self._encoded(prompt.before),
            conditioning_to_strength=prompt.share,
        )  # fmt: skip
        return mixed.out(0)

    def _encoded(self, text: str) -> list[Any]:
        # One node for each text, however many chunks it lasts.
        return self.node(
            "CLIPTextEncode", _named("text", text), text=text, clip=self._wired["clip"]
        ).out(0)


def _named(kind: str, *parts: str) -> str:
    return kind + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
