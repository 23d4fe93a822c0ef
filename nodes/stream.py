"""Stream Chunks: generate the next chunks of a stream."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..adastate_comfy.kept_chunks import KeptChunks
from ..adastate_comfy.sampling.length import chunks_wanted
from ..adastate_comfy.sampling.stream_run import StreamInputs, StreamRun
from ..adastate_comfy.video.live_pictures import live_view, pictures_for
from ..adastate_core.stream.state import StreamState
from .inputs import (
    CATEGORY,
    DEFAULT_FPS,
    fps_input,
    model_input,
    negative_input,
    pair_inputs,
    positive_input,
    preview_vae_input,
    sampling_inputs,
    seconds_input,
    state_input,
    state_output,
)

MOST_CHUNKS = 100_000
"""Chunks that one node makes at most."""


class AdaStateStream(io.ComfyNode):
    """Generate the next chunks of a stream."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateStream",
            display_name="Stream Chunks",
            category=f"{CATEGORY}/stream",
            description="Generate the next chunks of a stream.",
            search_aliases=["autoregressive", "video sampler", "continue", "chunk", "streaming"],
            inputs=[
                model_input(),
                state_input(),
                positive_input(),
                negative_input(),
                preview_vae_input(),
                *sampling_inputs(),
                io.Int.Input(
                    "chunks",
                    default=7,
                    min=1,
                    max=MOST_CHUNKS,
                    tooltip=(
                        "How many chunks to add, if seconds is 0. GPU memory does not grow with "
                        "it; the latents are all kept in system memory."
                    ),
                ),
                *pair_inputs(),
                seconds_input(),
                fps_input("Frames per second of the video, to count seconds.", optional=True),
            ],
            outputs=[
                state_output("The stream after these chunks. Wire it into the next Stream Chunks."),
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The frames of these chunks. The hidden state is not among them.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        state: StreamState,
        positive: io.Conditioning.Type,
        cfg: float,
        sampler: Sampler,
        sigmas: Tensor,
        seed: int,
        chunks: int,
        negative: io.Conditioning.Type | None = None,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
        vae: VAE | None = None,
        seconds: float = 0.0,
        fps: float = DEFAULT_FPS,
    ) -> io.NodeOutput:
        """Check everything that can be checked, then let the core stream."""
        with live_view(cls.hidden) as view:
            chunks = chunks_wanted(model, state, chunks, seconds, fps, most=MOST_CHUNKS)
            inputs = StreamInputs(
                model=model,
                state=state,
                positive=positive,
                cfg=cfg,
                sampler=sampler,
                sigmas=sigmas,
                seed=seed,
                chunks=chunks,
                negative=negative,
                model_low_noise=model_low_noise,
                switch_sigma=switch_sigma,
                vae=vae,
                fps=fps,
            )
            view.show_with(pictures_for(inputs))
            kept = KeptChunks(cls.hidden, chunks, view)
            run = StreamRun.prepare(inputs, view=view)
            with kept:
                after = run.run(run.start, chunks, kept.add)
        return io.NodeOutput(after, kept.latent())
