"""Render Stream to Video: chunks go from noise to a file, and nothing grows with the length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy.samplers import Sampler
from comfy.sd import VAE
from comfy_api.latest import InputImpl, io, ui
from torch import Tensor

from ..adastate_comfy.model.binding import bound_model
from ..adastate_comfy.output_names import place
from ..adastate_comfy.sampling.stream_run import StreamInputs, StreamRun
from ..adastate_comfy.video.decoders import ChunkDecoder, open_decoder
from ..adastate_comfy.video.render_history import HISTORY, for_render, joins_exactly
from ..adastate_comfy.video.render_job import RenderJob
from ..adastate_comfy.video.video_file import ENCODERS, VideoFile, disk_error
from ..adastate_core.errors import LayoutError
from ..adastate_core.files.receipts import SUFFIX, ReceiptFile
from ..adastate_core.files.state_file import SUFFIX as STATE_SUFFIX
from ..adastate_core.files.strict_json import strict_json
from ..adastate_core.stream.state import StreamState
from ..adastate_core.stream.summary import receipt
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

_VAE = "adastate_vae"
_ENDINGS = (".mp4", SUFFIX, STATE_SUFFIX)
"""Of the video, its receipts, and the stream if it has to be saved; all have one number."""


class AdaStateRender(io.ComfyNode):
    """Generate chunks and write them to a video file as they come."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateRender",
            display_name="Render Stream to Video",
            category=CATEGORY,
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
                    tooltip="How many chunks to add. Neither memory nor time a chunk grows.",
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
                    tooltip="Lower is better and larger. 20 is hard to tell from the original.",
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
                        "Whether the picture or clip that the stream continues is the beginning "
                        "of the video. It can be in front of chunk 0 only."
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
                        "Chunks that the stream remembers, for going on, rewinding and decoding "
                        "again. At 13 it never remembers less than before, and as many more as "
                        "short chunks need; 0 remembers all, which grows with the length."
                    ),
                ),
                io.Boolean.Input(
                    "decode_apart",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Decode and encode a chunk while the next one is made. Needs room for the "
                        "model and the VAE at once. Has no effect under Dynamic VRAM, the default "
                        "on NVIDIA cards."
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
        positive: list[Any],
        vae: VAE,
        cfg: float,
        sampler: Sampler,
        sigmas: Tensor,
        seed: int,
        chunks: int,
        fps: float,
        filename_prefix: str,
        negative: list[Any] | None = None,
        crf: float = 20.0,
        codec: str = "h264",
        include_start: bool = True,
        history_chunks: int = HISTORY,
        decode_apart: bool = False,
        model_low_noise: ModelPatcher | None = None,
        switch_sigma: float = 0.875,
    ) -> io.NodeOutput:
        """Check everything first; then make, decode and write chunk by chunk."""
        _require_one(state)
        part = bound_model(model).config.chunk_frames
        decoder = open_decoder(vae, (*state.latent_shape[:2], part, *state.latent_shape[2:]))
        if decode_apart:
            # Loaded in one go with the model, so that no session takes its place from it.
            model, model_low_noise = (_beside(m, decoder) for m in (model, model_low_noise))
        inputs = StreamInputs(
            model, state, positive, cfg, sampler, sigmas, seed, chunks,
            negative, model_low_noise, switch_sigma,
        )  # fmt: skip
        run = StreamRun.prepare(inputs, node_id=cls.hidden.unique_id, together=1)
        exact = joins_exactly(run.start)
        state = for_render(run.start, history_chunks, part)
        size = _pixels(state, vae)
        hidden = cls.hidden
        endings = [f"_00001_{ending}" for ending in _ENDINGS]
        target = place(filename_prefix, size, endings, hidden.prompt, hidden.extra_pnginfo)
        path = target.claim("_{:05}_", _ENDINGS)
        try:
            video = VideoFile(
                path, size, fps=fps, crf=crf, codec=codec, metadata=cls._workflow(),
                expected=_expected(state, vae, chunks, part),
            )  # fmt: skip
            receipts = _receipts(
                path.with_suffix(SUFFIX),
                {
                    "video": path.name, "fps": fps, "size": size, "codec": codec, "crf": crf,
                    "model": run.request.fingerprint.family, "first_chunk": state.chunk_index,
                    "before": [receipt(event) for event in state.events],
                },
            )  # fmt: skip
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        job = RenderJob(video, receipts, decoder, run.progress.show, apart=decode_apart)
        try:
            job.begin(state, part, include_start)
            for _ in range(chunks):
                state = run.run(state, 1)
                job.add(state)
            job.finish()
        except BaseException as error:
            run.progress.say(job.stop(f"{type(error).__name__}: {error}".rstrip(": ")))
            raise
        notes = _notes(decoder, video, decode_apart, exact, state)
        run.progress.say("; ".join(notes))
        saved = ui.SavedResult(path.name, target.subfolder, io.FolderType.output)
        return io.NodeOutput(state, InputImpl.VideoFromFile(str(path)), ui=ui.PreviewVideo([saved]))

    @classmethod
    def _workflow(cls) -> dict[str, str]:
        """Return what ComfyUI's own nodes write into a video, unless the user has forbidden it."""
        if args.disable_metadata:
            return {}
        values = dict(cls.hidden.extra_pnginfo or {})
        if cls.hidden.prompt:
            values["prompt"] = cls.hidden.prompt
        return {key: strict_json(value) for key, value in values.items()}


def _notes(
    decoder: ChunkDecoder, video: VideoFile, decode_apart: bool, exact: bool, state: StreamState
) -> Iterator[str]:
    """Say what an artist should know about a finished video."""
    yield f"{video.frames} frames"
    if decoder.exact and not exact:
        yield (
            "the stream had forgotten frames that the VAE looks back at, so that the beginning may "
            "not join the video before"
        )
    if decoder.exact and not joins_exactly(state):
        yield "a video that goes on from here joins exactly with a longer history_chunks only"
    if decoder.note:
        yield decoder.note
    if decode_apart and not decoder.can_run_apart:
        yield "decoded in between, since the VAE is not kept whole on the device"


def _require_one(state: StreamState) -> None:
    if state.latent_shape[0] != 1:
        raise LayoutError(
            "batch of the stream",
            seen=state.latent_shape[0],
            expected="1, since a file holds one video",
            remedy="set batch_size to 1 on the latent, or take Stream Chunks and Decode Stream",
        )


def _pixels(state: StreamState, vae: Any) -> tuple[int, int]:
    scale = vae.spacial_compression_decode()
    return state.latent_shape[3] * scale, state.latent_shape[2] * scale


def _beside(model: ModelPatcher | None, decoder: ChunkDecoder) -> ModelPatcher | None:
    if model is None:
        return None
    beside = model.clone()
    beside.set_additional_models(_VAE, [decoder.patcher])
    return beside


def _expected(state: StreamState, vae: Any, chunks: int, part: int) -> tuple[int, int]:
    """Return the frames and parts that the file will have, or a few more."""
    stride = vae.temporal_compression_decode() or 1
    given = state.next_frame if state.chunk_index == 0 else 0
    return (given + chunks * part) * stride, given + chunks


def _receipts(path: Path, head: dict[str, Any]) -> ReceiptFile:
    try:
        return ReceiptFile(path, head)
    except OSError as error:
        raise disk_error(path, error) from error
