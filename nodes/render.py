"""Render Stream to Video: chunks go from noise to a file, and nothing grows with the length."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import CLIP, VAE
from comfy_api.latest import InputImpl, io, ui
from torch import Tensor

from ..adastate_comfy.model.binding import bound_model
from ..adastate_comfy.sampling.length import chunks_wanted, pace_of
from ..adastate_comfy.sampling.stream_run import StreamInputs
from ..adastate_comfy.sampling.timeline_prompts import check_prompts, resolve_prompts
from ..adastate_comfy.video.encoders import ENCODERS, Codec, require_encoder
from ..adastate_comfy.video.live_pictures import failure_shown
from ..adastate_comfy.video.render_files import VideoFormat
from ..adastate_comfy.video.render_history import HISTORY
from ..adastate_comfy.video.stream_render import RenderOptions, render_stream
from ..adastate_core.errors import ConfigError, VideoFileError
from ..adastate_core.stream.state import StreamState
from .inputs import (
    CATEGORY,
    TIMELINE_HELP,
    clip_input,
    fps_input,
    model_input,
    negative_input,
    pair_inputs,
    positive_input,
    sampling_inputs,
    seconds_input,
    state_input,
    state_output,
    timeline_input,
)

MOST_CHUNKS = 1_000_000
"""Chunks that one node makes at most."""
_MISSING = object()
"""Stands for a socket that nothing is connected to."""


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
                positive_input(
                    "What happens in these chunks. Not used when there is a timeline.",
                    optional=True,
                ),
                clip_input("The text encoder of the model, for a timeline.", optional=True),
                negative_input(),
                io.Vae.Input(
                    "vae",
                    tooltip=(
                        "The VAE that goes with the model. A tiny one (TAEHV) is for speed, the "
                        "full one for the quality of the final video."
                    ),
                ),
                *sampling_inputs(),
                io.Int.Input(
                    "chunks",
                    default=40,
                    min=1,
                    max=MOST_CHUNKS,
                    tooltip=(
                        "How many chunks to add, if seconds is 0. A longer video needs no more "
                        "memory, and its chunks take no longer."
                    ),
                ),
                fps_input(
                    "Frames per second. Wan 2.1 makes 16, Wan 2.2 5B 24.",
                    minimum=0.01,
                    maximum=1000.0,
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
                    tooltip=(
                        "h264 plays everywhere; h265 is smaller. h264_nvenc and hevc_nvenc are the "
                        "same two, encoded by an NVIDIA card instead of the processor."
                    ),
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
                        "decode it. 13 keeps at least what it needs to continue without a seam, "
                        "and never fewer than before; any other number is used as it is. 0 keeps "
                        "all of them, which takes more memory the longer it gets."
                    ),
                ),
                io.Boolean.Input(
                    "decode_apart",
                    display_name="decode in the background",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Decode a chunk while the next one is made, instead of between the two. "
                        "Needs memory for the model and the VAE together. Has no effect under "
                        "Dynamic VRAM, the default on NVIDIA cards. Encoding and saving run beside "
                        "the stream either way."
                    ),
                ),
                *pair_inputs(),
                seconds_input(),
                timeline_input(
                    "",
                    "Prompts that change on the way; leave it empty to use positive. Needs clip.\n"
                    + TIMELINE_HELP,
                    optional=True,
                ),
                io.Vae.Input(
                    "audio_vae",
                    optional=True,
                    tooltip=(
                        "The audio VAE that goes with the model, for models that make sound "
                        "(MiniMax H3, LTX-2); the video is silent without. fps then has to be the "
                        "speed that the model makes, 24 for MiniMax H3."
                    ),
                ),
            ],
            outputs=[
                state_output("The stream after these chunks."),
                io.Video.Output("video", display_name="video", tooltip="The video file."),
            ],
            hidden=[
                io.Hidden.unique_id,
                io.Hidden.dynprompt,
                io.Hidden.prompt,
                io.Hidden.extra_pnginfo,
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        timeline: str = "",
        positive: object = _MISSING,
        clip: object = _MISSING,
        codec: str | None = None,
    ) -> bool | str:
        """Require one kind of prompt, a codec that can be written, and read the timeline.

        That is before anything runs: a socket that is connected comes as None.
        """
        try:
            if codec is not None:
                require_encoder(codec)
            check_prompts(
                timeline, has_positive=positive is not _MISSING, has_clip=clip is not _MISSING
            )
        except (ConfigError, VideoFileError) as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        state: StreamState,
        vae: VAE,
        cfg: float,
        sampler: Sampler,
        sigmas: Tensor,
        seed: int,
        chunks: int,
        fps: float,
        filename_prefix: str,
        positive: io.Conditioning.Type | None = None,
        clip: CLIP | None = None,
        negative: io.Conditioning.Type | None = None,
        crf: float = 20.0,
        codec: Codec = "h264",
        include_start: bool = True,
        history_chunks: int = HISTORY,
        decode_apart: bool = False,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
        seconds: float = 0.0,
        timeline: str = "",
        audio_vae: VAE | None = None,
    ) -> io.NodeOutput:
        """Check everything first; then make, decode and write chunk by chunk."""
        with failure_shown(cls.hidden):
            require_encoder(codec)
            chunks = chunks_wanted(model, state, chunks, seconds, fps, most=MOST_CHUNKS)
            pace, first = pace_of(bound_model(model), fps), state.chunk_index
            positive, prompts = resolve_prompts(positive, clip, timeline, pace, first, chunks)
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
            fps=fps,
            prompts=prompts,
        )
        options = RenderOptions(
            filename_prefix=filename_prefix,
            form=VideoFormat(fps, crf, codec),
            include_start=include_start,
            history_chunks=history_chunks,
            in_background=decode_apart,
            audio_vae=audio_vae,
        )
        rendered = render_stream(inputs, vae, options, cls.hidden)
        name = rendered.path.name
        saved = ui.SavedResult(name, rendered.subfolder, io.FolderType.output)
        return io.NodeOutput(
            rendered.state,
            InputImpl.VideoFromFile(str(rendered.path)),
            ui=ui.PreviewVideo([saved]),
        )
