"""Stream Timeline: one step for every chunk, each under the prompt that the timeline gives it.

The node expands into the nodes an artist would have wired by hand. A child gets constants (its
text, the seed) and links to what this node is wired to, so ComfyUI's cache knows each chunk by
what it depends on: after an edit of chunk 7, chunks 0 to 6 stay as they are.

ComfyUI looks at all that comes before a node to know it again, which for a chain of steps takes a
time that grows with the square of their number. So late chunks share a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import CLIP
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder
from torch import Tensor

from ..adastate_comfy.model.binding import bound_model
from ..adastate_core.errors import ConfigError
from ..adastate_core.stream.state import StreamState
from ..adastate_core.stream.timeline import ChunkPrompt, Pace, parse_timeline, plan_prompts
from .inputs import (
    CATEGORY,
    SAMPLING_IDS,
    model_input,
    negative_input,
    pair_inputs,
    sampling_inputs,
    state_input,
    state_output,
)

DEFAULT = "0: a red circle moves left"
FIRST_JOINED = 128
"""First chunk that may share a step with others."""
JOINED_CHUNKS = 8
"""Chunks of such a step. It ends at a multiple of them, so that no edit moves the steps before."""


class AdaStateStreamTimeline(io.ComfyNode):
    """Generate chunks under prompts that change on the way."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateStreamTimeline",
            display_name="Stream Timeline",
            category=CATEGORY,
            description="Generate chunks under prompts that change on the way.",
            search_aliases=["prompt schedule", "prompt travel", "storyboard"],
            inputs=[
                model_input(),
                state_input(),
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
                negative_input(),
                *sampling_inputs(),
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
                *pair_inputs(),
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
        cls,
        model: ModelPatcher,
        state: StreamState,
        clip: CLIP,
        timeline: str,
        cfg: float,
        sampler: Sampler,
        sigmas: Tensor,
        seed: int,
        chunks: int,
        fps: float,
        negative: list[Any] | None = None,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
    ) -> io.NodeOutput:
        """Plan the chunks and expand into their nodes, which are wired to what this one is."""
        bound = bound_model(model)
        pace = Pace(bound.config.chunk_frames, bound.traits.time_stride, fps)
        plan = plan_prompts(parse_timeline(timeline), pace, state.chunk_index, chunks)
        wired = cls.hidden.dynprompt.get_node(cls.hidden.unique_id)["inputs"]
        graph = _Graph(wired)
        for prompts in joined(plan):
            graph.add(prompts[0], len(prompts))
        read = graph.node("AdaStateRead", state=graph.state, first_chunk=state.chunk_index)
        return io.NodeOutput(graph.state, read.out(2), expand=graph.finalize())


def joined(plan: list[ChunkPrompt]) -> Iterator[list[ChunkPrompt]]:
    """Yield the chunks of each step: late ones in a row that differ in nothing but their number."""
    step: list[ChunkPrompt] = []
    for prompt in plan:
        late = prompt.chunk >= FIRST_JOINED and prompt.chunk % JOINED_CHUNKS != 0
        plain = prompt.before is None and prompt.transition == "swap"
        if step and not (late and plain and step[0].before is None and step[0].text == prompt.text):
            yield step
            step = []
        step.append(prompt)
    if step:
        yield step


class _Graph(GraphBuilder):
    """Build the chain of steps.

    Args:
        wired: Inputs of the node: constants, and links to where the others come from.
    """

    def __init__(self, wired: dict[str, Any]) -> None:
        super().__init__()
        self._clip = wired["clip"]
        self.state = wired["state"]
        self._sampling = {name: wired[name] for name in SAMPLING_IDS if name in wired}

    def add(self, prompt: ChunkPrompt, chunks: int) -> None:
        """Add a step of chunks, with ids that stay the same when the timeline is edited."""
        number = prompt.chunk
        if prompt.transition != "swap":
            edit = self.node(
                "AdaStateTransition", f"change{number}", state=self.state,
                transition=prompt.transition, frames=prompt.count,
            )  # fmt: skip
            self.state = edit.out(0)
        step = self.node(
            "AdaStateStream", f"chunk{number}",
            **{**self._sampling, "state": self.state, "positive": self._positive(prompt),
               "chunks": chunks},
        )  # fmt: skip
        self.state = step.out(0)

    def _positive(self, prompt: ChunkPrompt) -> list[Any]:
        text = self._encoded(prompt.text)
        if prompt.before is None:
            return text
        mixed = self.node(
            "ConditioningAverage", f"blend{prompt.chunk}", conditioning_to=text,
            conditioning_from=self._encoded(prompt.before), conditioning_to_strength=prompt.share,
        )  # fmt: skip
        link: list[Any] = mixed.out(0)
        return link

    def _encoded(self, text: str) -> list[Any]:
        # One node for each text, however many chunks it lasts.
        name = f"text{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        link: list[Any] = self.node("CLIPTextEncode", name, text=text, clip=self._clip).out(0)
        return link
