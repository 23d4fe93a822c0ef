"""Decode Stream: images and sound of a stream or a latent, part by part, at constant memory."""

from __future__ import annotations

from comfy.sd import VAE
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..adastate_comfy.progress import write_under
from ..adastate_comfy.video.looping import close_loop, close_sound_loop, longest_fade
from ..adastate_comfy.video.stream_decoding import open_sound, plan_decoding, run_decoding
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, AdaStateSocket


class AdaStateDecode(io.ComfyNode):
    """Decode chunks of a stream as parts of one video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateDecode",
            display_name="Decode Stream",
            category=f"{CATEGORY}/video",
            description="Decode chunks of a stream as parts of one video, without seams.",
            search_aliases=["vae decode", "streaming decode", "seamless"],
            inputs=[
                io.Vae.Input(
                    "vae",
                    tooltip=(
                        "The VAE that goes with the model. Those of Wan 2.1 and 2.2, MiniMax H3 "
                        "and the tiny ones (TAEHV) leave no seams; with others, parts are joined "
                        "by overlap."
                    ),
                ),
                AdaStateSocket.Input(
                    "state",
                    optional=True,
                    tooltip="The stream to decode. Connect this or a latent.",
                ),
                io.Int.Input(
                    "first_chunk",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip=(
                        "Chunk to begin with. Earlier ones are decoded too, but not returned, so "
                        "that the images are those of the whole video."
                    ),
                ),
                io.Int.Input(
                    "chunks",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="How many chunks to decode. 0 decodes all up to the end.",
                ),
                io.Boolean.Input(
                    "include_start",
                    default=True,
                    tooltip=(
                        "Whether the video begins with the image or clip that the stream continues."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip=(
                        "A video latent to decode instead of a stream, all of it. Leave "
                        "first_chunk and chunks at 0."
                    ),
                ),
                io.Int.Input(
                    "loop",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip=(
                        "Make a video that loops: its last frames, as many as this, fade into its "
                        "first ones, and it becomes shorter by so many. 12 frames are a chunk of "
                        "Wan. 0 makes no loop."
                    ),
                ),
                io.Vae.Input(
                    "audio_vae",
                    optional=True,
                    tooltip=(
                        "The audio VAE that goes with the model, for models that make sound "
                        "(MiniMax H3, LTX-2)."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The images of these chunks."),
                io.Audio.Output(
                    tooltip=(
                        "The sound of these chunks, as loud as the VAE makes it. Without sound or "
                        "audio_vae, what is connected here does not run."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae: VAE,
        state: StreamState | None = None,
        first_chunk: int = 0,
        chunks: int = 0,
        include_start: bool = True,
        latent: io.Latent.Type | None = None,
        loop: int = 0,
        audio_vae: VAE | None = None,
    ) -> io.NodeOutput:
        """Decode from the start, and keep what was asked for."""
        plan = plan_decoding(state, latent, first_chunk, chunks, include_start)
        reader = open_sound(audio_vae, plan) if audio_vae is not None else None
        video = run_decoding(vae, plan)
        images, notes = video.images, list(video.notes)
        frames = images.shape[1]
        if loop > (longest := longest_fade(frames)):
            notes.append(f"too short to loop over {loop} frames: its end fades over {longest}")
        audio = None
        if reader is not None and not reader.is_silent:
            audio = reader.read()
            audio["waveform"] = close_sound_loop(audio["waveform"], loop, frames)
            notes += reader.notes
        if notes:
            write_under(cls.hidden.unique_id, "; ".join(notes))
        return io.NodeOutput(
            close_loop(images, loop).flatten(0, 1), audio or ExecutionBlocker(None)
        )
