"""Stream Chunks: generate the next chunks of a stream."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..adastate_comfy.sampling.stream_run import Step
from ..adastate_comfy.sockets.latents import from_model_space
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, state_input, state_output


class AdaStateStream(io.ComfyNode):
    """Generate the next chunks of a stream."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare inputs and outputs."""
        return io.Schema(
            node_id="AdaStateStream",
            display_name="Stream Chunks",
            category=CATEGORY,
            description="Generate the next chunks of a stream.",
            search_aliases=["autoregressive", "video sampler", "continue", "chunk", "streaming"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL that went through Apply AdaState."),
                state_input(),
                io.Conditioning.Input(
                    "positive",
                    tooltip=(
                        "What happens in these chunks. To change the prompt on the way, chain "
                        "several Stream Chunks."
                    ),
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What to avoid. Needed, and used, with a cfg other than 1.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip=(
                        "Guidance. Models that stream are mostly distilled to 1.0, which is "
                        "also twice as fast."
                    ),
                ),
                io.Sampler.Input(
                    "sampler", tooltip="Any sampler. Distilled causal models want lcm."
                ),
                io.Sigmas.Input(
                    "sigmas", tooltip="The noise levels of one chunk, ending at 0. Any scheduler."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip=(
                        "Every chunk draws from this and its own number, so the same seed on "
                        "one node of 7 chunks and on 7 nodes of one chunk gives the same video."
                    ),
                ),
                io.Int.Input(
                    "chunks",
                    default=7,
                    min=1,
                    max=100000,
                    tooltip=(
                        "How many chunks to add. GPU memory does not grow with it; their latents "
                        "are all kept in system memory."
                    ),
                ),
                io.Model.Input(
                    "model_low_noise",
                    optional=True,
                    tooltip=(
                        "The second model of a pair, such as Wan 2.2 14B: it makes the steps at "
                        "low noise. It goes through an Apply AdaState of its own, set alike."
                    ),
                ),
                io.Float.Input(
                    "switch_sigma",
                    optional=True,
                    default=0.875,
                    min=0.0,
                    max=1.0,
                    step=0.005,
                    round=0.0001,
                    advanced=True,
                    tooltip=(
                        "Noise level below which the low-noise model takes over. Wan 2.2 wants "
                        "0.875 for text-to-video and 0.9 for image-to-video."
                    ),
                ),
            ],
            outputs=[
                state_output("The stream after these chunks. Wire it into the next Stream Chunks."),
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The frames of these chunks. The hidden state is not among them.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, state: StreamState, chunks: int, **inputs: Any
    ) -> io.NodeOutput:
        """Check everything that can be checked, then let the core stream."""
        node_id = cls.hidden.unique_id
        step = Step.checked(model, state, chunks=chunks, **inputs, node_id=node_id)
        # Collected as they come: a bounded history may have forgotten the first ones by the end.
        made: list[Tensor] = []
        after = step.run(step.start, chunks, lambda new: made.append(new.newest_content()))
        return io.NodeOutput(after, from_model_space(after, torch.cat(made, dim=2)))
