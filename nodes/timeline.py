"""Stream Timeline: one step for every chunk, each under the prompt that the timeline gives it."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import CLIP, VAE
from comfy_api.latest import io
from torch import Tensor

from ..adastate_comfy.model.binding import bound_model
from ..adastate_comfy.sampling.length import chunks_wanted, pace_of
from ..adastate_comfy.timeline_graph import TimelineGraph, open_timeline
from ..adastate_comfy.video.live_pictures import failure_shown
from ..adastate_core.errors import ConfigError
from ..adastate_core.stream.state import StreamState
from ..adastate_core.stream.timeline import parse_timeline, plan_prompts
from .inputs import (
    CATEGORY,
    SAMPLING_IDS,
    clip_input,
    fps_input,
    model_input,
    negative_input,
    pair_inputs,
    preview_vae_input,
    sampling_inputs,
    seconds_input,
    state_input,
    state_output,
    timeline_input,
)

MOST_CHUNKS = 1000
"""Chunks that one node makes at most, since each is a node to ComfyUI."""


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
                clip_input(),
                timeline_input("0: a red circle moves left"),
                negative_input(),
                preview_vae_input(),
                *sampling_inputs(),
                io.Int.Input(
                    "chunks",
                    default=12,
                    min=1,
                    max=MOST_CHUNKS,
                    tooltip=(
                        "How many chunks to add, if seconds is 0. ComfyUI keeps each of them, so "
                        "an edit of the timeline repeats only what comes after it."
                    ),
                ),
                fps_input("Frames per second of the video, for seconds and lines with a time."),
                *pair_inputs(),
                seconds_input(),
            ],
            outputs=[
                state_output("The stream after these chunks."),
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The frames of these chunks, as far as the stream keeps them.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
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
        vae: VAE | None = None,
        seconds: float = 0.0,
    ) -> io.NodeOutput:
        """Plan the chunks and expand into their nodes, which are wired to what this one is."""
        with failure_shown(cls.hidden):
            chunks = chunks_wanted(model, state, chunks, seconds, fps, most=MOST_CHUNKS)
            pace, first = pace_of(bound_model(model), fps), state.chunk_index
            plan = plan_prompts(parse_timeline(timeline), pace, first, chunks)
            open_timeline(cls.hidden, state, pace, chunks)
        wired = cls.hidden.dynprompt.get_node(cls.hidden.unique_id)["inputs"]
        graph = TimelineGraph(wired, SAMPLING_IDS)
        graph.add_steps(plan)
        return io.NodeOutput(graph.state, graph.read_content(first), expand=graph.finalize())
