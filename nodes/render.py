"""Render Stream to Video: chunks go from noise to a file, and nothing grows with the length."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import VAE
from comfy_api.latest import InputImpl, io, ui
from torch import Tensor

from ..adastate_comfy.sampling.stream_run import StreamInputs
from ..adastate_comfy.video.render_files import VideoFormat
from ..adastate_comfy.video.render_history import HISTORY
from ..adastate_comfy.video.stream_render import RenderOptions, render_stream
from ..adastate_comfy.video.video_file import ENCODERS, Codec
from ..adastate_core.stream.state import StreamState
from .inputs import (
    CATEGORY,
    model_input,
    negative_input,
    pair_inputs,
    positive_input,
    sampling_inputs,
    state_input,
    state_output,
)


class AdaStateRender(io.ComfyNode):
    """Generate chunks and write them to a video file as they come."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateRender",
            display_name="Render Stream to Video",
            category=f"{CATEGORY}/video",
            description="Generate chunks and write them to a video file as they come.",
            search_aliases=["save video", "long video", "render to disk", "endless"],
            is_output_node=True,
            inputs=[
                model_input(),
                state_input(),
                positive_input(),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                negative_input(),
                *sampling_inputs(),
                io.Int.Input(
                    "chunks",
                    default=40,
                    min=1,
                    max=1000000,
                    tooltip=(
                        "How many chunks to add. Neither memory nor the time of a chunk grows with "
                        "it."
                    ),
                ),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="Frames per second. Wan 2.1 makes 16, Wan 2.2 5B 24.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/ADASTATE",
                    tooltip="Folder and name under ComfyUI's output folder.",
                ),
                io.Float.Input(
                    "crf",
                    default=20.0,
                    min=0.0,
                    max=51.0,
                    step=1.0,
                    optional=True,
                    tooltip=(
                        "Quality: lower is better and larger. 20 is hard to tell from the original."
                    ),
                ),
                io.Combo.Input(
                    "codec",
                    options=list(ENCODERS),
                    default="h264",
                    optional=True,
                    advanced=True,
                    tooltip="h264 plays everywhere; h265 is smaller.",
                ),
                io.Boolean.Input(
                    "include_start",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Whether the video begins with the image or clip that the stream "
                        "continues. This is possible only in front of chunk 0."
                    ),
                ),
                io.Int.Input(
                    "history_chunks",
                    default=HISTORY,
                    min=0,
                    max=100000,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "How many chunks the stream keeps afterwards, to continue, rewind and "
                        "decode again. 13 keeps as many as it needs to continue exactly, and "
                        "never fewer than before; any other number is used as it is. 0 keeps "
                        "all, which grows with the length."
                    ),
                ),
                io.Boolean.Input(
                    "decode_apart",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Decode and encode a chunk while the next one is made. Needs memory for "
                        "the model and the VAE together. Has no effect under Dynamic VRAM, the "
                        "default on NVIDIA cards."
                    ),
                ),
                *pair_inputs(),
            ],
            outputs=[
                state_output("The stream after these chunks."),
                io.Video.Output("video", display_name="video", tooltip="The file."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        state: StreamState,
        positive: io.Conditioning.Type,
        vae: VAE,
        cfg: float,
        sampler: Sampler,
        sigmas: Tensor,
        seed: int,
        chunks: int,
        fps: float,
        filename_prefix: str,
        negative: io.Conditioning.Type | None = None,
        crf: float = 20.0,
        codec: Codec = "h264",
        include_start: bool = True,
        history_chunks: int = HISTORY,
        decode_apart: bool = False,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
    ) -> io.NodeOutput:
        """Check everything first; then make, decode and write chunk by chunk."""
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
        )
        options = RenderOptions(
            filename_prefix=filename_prefix,
            form=VideoFormat(fps, crf, codec),
            include_start=include_start,
            history_chunks=history_chunks,
            in_background=decode_apart,
        )
        rendered = render_stream(inputs, vae, options, cls.hidden)
        name = rendered.path.name
        saved = ui.SavedResult(name, rendered.subfolder, io.FolderType.output)
        return io.NodeOutput(
            rendered.state,
            InputImpl.VideoFromFile(str(rendered.path)),
            ui=ui.PreviewVideo([saved]),
        )
