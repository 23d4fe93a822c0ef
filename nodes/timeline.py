"""Stream Timeline: one step for every chunk, each under the prompt that the timeline gives it."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import CLIP
from comfy_api.latest import io
from torch import Tensor

from ..adastate_comfy.model.binding import bound_model
from ..adastate_comfy.timeline_graph import TimelineGraph
from ..adastate_core.errors import ConfigError
from ..adastate_core.stream.state import StreamState
from ..adastate_core.stream.timeline import Pace, parse_timeline, plan_prompts
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


class AdaStateStreamTimeline(io.ComfyNode):
    """Generate chunks under prompts that change on the way."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateStreamTimeline",
            display_name="Stream Timeline",
            category=f"{CATEGORY}/stream",
            description="Generate chunks under prompts that change on the way.",
            search_aliases=["prompt schedule", "prompt travel", "storyboard"],
            inputs=[
                model_input(),
                state_input(),
                io.Clip.Input("clip", tooltip="The text encoder of the model."),
                io.String.Input(
                    "timeline",
                    multiline=True,
                    default="0: a red circle moves left",
                    socketless=True,
                    tooltip=(
                        "A line for every prompt: when it begins, how, and the prompt.\n"
                        "0: a red circle moves left\n"
                        "chunk 4 blend 2: a red circle moves right\n"
                        "6.5s recache: a blue square in the fog\n"
                        "1:10: a green square on a hill\n"
                        "Chunk numbers count from the start of the stream. blend mixes over some "
                        "chunks, recache computes the memory again under the new prompt, flush 1 "
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
                    tooltip="The frames of these chunks, as far as the stream keeps them.",
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
        negative: io.Conditioning.Type | None = None,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
    ) -> io.NodeOutput:
        """Plan the chunks and expand into their nodes, which are wired to what this one is."""
        bound = bound_model(model)
        pace = Pace(bound.config.chunk_frames, bound.traits.time_stride, fps)
        plan = plan_prompts(parse_timeline(timeline), pace, state.chunk_index, chunks)
        wired = cls.hidden.dynprompt.get_node(cls.hidden.unique_id)["inputs"]
        graph = TimelineGraph(wired, SAMPLING_IDS)
        graph.add_steps(plan)
        return io.NodeOutput(
            graph.state, graph.read_content(state.chunk_index), expand=graph.finalize()
        )
