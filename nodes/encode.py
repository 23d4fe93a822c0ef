"""Encode Clip for Stream: a clip of any length as the start of a stream, at constant memory."""

from __future__ import annotations

from comfy.sd import VAE
from comfy_api.latest import Input, io
from torch import Tensor

from ..adastate_comfy.progress import write_under
from ..adastate_comfy.video.clip_encoder import ClipEncoder
from ..adastate_comfy.video.clip_sound import read_sound
from .inputs import CATEGORY


class AdaStateEncode(io.ComfyNode):
    """Encode a clip that a stream continues."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateEncode",
            display_name="Encode Clip for Stream",
            category=f"{CATEGORY}/video",
            description="Encode an image or clip that a stream continues, also a very long one.",
            search_aliases=["vae encode", "video to latent", "continue a video"],
            inputs=[
                io.Vae.Input(
                    "vae", tooltip="The VAE of Wan 2.1 or Wan 2.2, or a tiny one (TAEHV)."
                ),
                io.MultiType.Input(
                    "clip",
                    types=[io.Image, io.Video],
                    tooltip=(
                        "Images, or a video. A video file is read frame by frame and is never "
                        "in memory as a whole."
                    ),
                ),
                io.Int.Input(
                    "width",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip=(
                        "Width of the stream's images. The clip is scaled to fill them and "
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
                        "Height of the stream's images. 0 keeps the clip's height, or its "
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
                io.Float.Output(
                    "fps",
                    display_name="fps",
                    tooltip=(
                        "Frames per second of the clip, for Create Video or Render Stream to "
                        "Video. 16 for images."
                    ),
                ),
                io.Audio.Output(
                    "audio",
                    display_name="audio",
                    tooltip=(
                        "The sound of the frames that are used, for Create Video. Empty for "
                        "images and silent videos."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, vae: VAE, clip: Tensor | Input.Video, width: int, height: int
    ) -> io.NodeOutput:
        """Drop the oldest frames that do not fit, and encode the others."""
        encoder = ClipEncoder(vae, clip)
        if encoder.note:
            write_under(cls.hidden.unique_id, encoder.note)
        sound = read_sound(clip, encoder.dropped)
        latent = {"samples": encoder.encode(width, height)}
        return io.NodeOutput(latent, encoder.used, sound.fps, sound.audio)
