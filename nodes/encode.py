"""Encode Clip for Stream: a clip of any length as the start of a stream, at constant memory."""

from __future__ import annotations

from itertools import islice
from typing import Any

import comfy.model_management
import comfy.utils
from comfy_api.latest import io
from torch import Tensor

from ..adastate_comfy.progress import write_under
from ..adastate_comfy.video.clip_reader import open_clip
from ..adastate_core.errors import LayoutError
from ..adastate_core.vae.registry import stream_encoder
from .inputs import CATEGORY


class AdaStateEncode(io.ComfyNode):
    """Encode a clip that a stream continues."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateEncode",
            display_name="Encode Clip for Stream",
            category=CATEGORY,
            description="Encode a picture or clip that a stream continues, also a very long one.",
            search_aliases=["vae encode", "video to latent", "continue a video"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of Wan 2.1 or Wan 2.2, or a TAEHV."),
                io.MultiType.Input(
                    "clip",
                    types=[io.Image, io.Video],
                    tooltip=(
                        "Pictures, or a video. A video file is read frame by frame and is never "
                        "in memory as a whole."
                    ),
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip=(
                        "Width of the stream's pictures. The clip is scaled to fill them and "
                        "cropped in the centre. 0 keeps the clip's width, or its proportions if "
                        "a height is given."
                    ),
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip=(
                        "Height of the stream's pictures. 0 keeps the clip's height, or its "
                        "proportions if a width is given."
                    ),
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="The encoded clip, for start_latent of New Stream.",
                ),
                io.Int.Output("frames", display_name="frames", tooltip="How many frames are used."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, vae: Any, clip: Any, width: int, height: int) -> io.NodeOutput:
        """Count the frames, drop the oldest ones that do not fit, and encode the others."""
        encoder = stream_encoder(vae.first_stage_model)
        opened = open_clip(clip)
        count = opened.count()
        if count == 0:
            raise LayoutError(
                "clip", seen="no frames", expected="1 or more", remedy="connect another clip"
            )
        groups = (count - 1) // encoder.stride
        used = groups * encoder.stride + 1
        if used < count:
            write_under(
                cls.hidden.unique_id,
                f"{count - used} of {count} frames dropped at the beginning: "
                f"{used} = {groups} x {encoder.stride} + 1 are used",
            )
        bar = comfy.utils.ProgressBar(used)
        for index, frame in enumerate(islice(opened.frames(), count - used, None)):
            comfy.model_management.throw_exception_if_processing_interrupted()
            pixels = _prepared(vae, frame, width, height)
            if index == 0:
                _load(vae, (*pixels.shape[:2], min(used, 1 + encoder.stride), *pixels.shape[3:]))
            encoder.add(pixels.to(vae.device))
            bar.update(1)
        latents = encoder.finish().to(vae.output_device, vae.vae_output_dtype())
        return io.NodeOutput({"samples": latents}, used)


def _prepared(vae: Any, frame: Tensor, width: int, height: int) -> Tensor:
    """Scale a frame and bring it into the VAE's range, (1, C, 1, H, W)."""
    size = _size((frame.shape[2], frame.shape[1]), width, height)
    if size != (frame.shape[2], frame.shape[1]):
        pixels = frame[..., :3].movedim(-1, 1)
        frame = comfy.utils.common_upscale(pixels, *size, "lanczos", "center").movedim(1, -1)
    frame = vae.vae_encode_crop_pixels(frame)
    prepared: Tensor = vae.process_input(frame.movedim(-1, 1)[:, :, None]).to(vae.vae_dtype)
    return prepared


def _size(given: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return width and height; one that is 0 follows from the other."""
    if not width and not height:
        return given
    return (
        width or max(1, round(given[0] * height / given[1])),
        height or max(1, round(given[1] * width / given[0])),
    )


def _load(vae: Any, shape: tuple[int, ...]) -> None:
    memory = vae.memory_used_encode(shape, vae.vae_dtype)
    comfy.model_management.load_models_gpu(
        [vae.patcher], memory_required=memory, force_full_load=vae.disable_offload
    )
