"""A stream from noise to a video file: nothing grows with its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ...adastate_core.errors import LayoutError
from ...adastate_core.stream.pace import count_of
from ...adastate_core.stream.state import StreamState
from ...adastate_core.stream.timing import with_clock
from ..model.binding import bound_model
from ..panel.pictures import ChunkPictures, small_pixels
from ..panel.stream_view import StreamView
from ..sampling.stream_run import StreamInputs, StreamRun
from .decoders import ChunkDecoder, open_decoder
from .live_pictures import failure_shown
from .render_files import RenderSize, VideoFormat, open_files
from .render_history import joins_exactly, with_render_history
from .render_job import RenderJob
from .render_sound import RenderSound
from .sound_opening import SoundOpening

_VAE = "adastate_vae"
"""Key of the VAE among the models that are loaded with a MODEL."""


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What Render Stream to Video is given besides the inputs of Stream Chunks.

    Args:
        filename_prefix: The widget of that name.
        form: How the video is encoded.
        include_start: Whether given frames are part of the video.
        history_chunks: The widget of that name.
        in_background: Whether a thread decodes a chunk while the next one is made.
        audio_vae: The VAE of the sound, or None.
    """

    filename_prefix: str
    form: VideoFormat
    include_start: bool
    history_chunks: int
    in_background: bool
    audio_vae: VAE | None = None


@dataclass(frozen=True, slots=True)
class RenderedVideo:
    """A finished video.

    Args:
        state: The stream after its last chunk.
        path: The file.
        subfolder: Its folder below the output folder, as ComfyUI's page wants it.
    """

    state: StreamState
    path: Path
    subfolder: str


def render_stream(
    inputs: StreamInputs, vae: VAE, options: RenderOptions, hidden: io.HiddenHolder
) -> RenderedVideo:
    """Check everything first; then make and decode chunk by chunk, and write beside that.

    Args:
        inputs: What to make.
        vae: The VAE.
        options: How to write it.
        hidden: The hidden inputs of the node.

    Raises:
        AdaStateError: For what cannot be streamed, decoded or written.
    """
    with failure_shown(hidden) as view:
        return _render(inputs, vae, options, hidden, view)


def _render(
    inputs: StreamInputs,
    vae: VAE,
    options: RenderOptions,
    hidden: io.HiddenHolder,
    view: StreamView,
) -> RenderedVideo:
    _require_one_video(inputs.state)
    chunk_frames = bound_model(inputs.model).config.chunk_frames
    shape = inputs.state.latent_shape
    decoder = open_decoder(vae, (*shape[:2], chunk_frames, *shape[2:]))
    hears = options.audio_vae is not None and inputs.state.sound_shape is not None
    if options.in_background and not decoder.patcher.is_dynamic():
        patchers = [decoder.patcher]
        if hears and options.audio_vae is not None:
            patchers.append(options.audio_vae.patcher)
        inputs = _with_vaes_loaded(inputs, patchers)
    run = StreamRun.prepare(inputs, view=view, together=1, previews=False)
    # Every chunk is in the file: none but the newest has to be gone back to.
    run = replace(run, request=replace(run.request, keep_start=False))
    clock = run.request.geometry.clock
    start = with_clock(run.start, clock)
    opening = None
    if hears and clock is not None:
        opening = SoundOpening.of(options.audio_vae, start, clock, chunk_frames, decoder)
        opening.check_speed(options.form.fps)
    joined = _joins(start, decoder, opening)
    state = with_render_history(start, options.history_chunks, chunk_frames)
    files = open_files(
        options.filename_prefix,
        RenderSize.of(state, vae, inputs.chunks, chunk_frames),
        options.form,
        state=state,
        family=run.request.fingerprint.family,
        sound=opening.form(state, options.include_start) if opening is not None else None,
        prompt=hidden.prompt,
        extra=hidden.extra_pnginfo,
    )
    in_background = options.in_background

    def show(after: StreamState, images: Tensor, hidden: Tensor | None) -> None:
        view.show(after, lambda: _pictures(images, hidden))

    sound = opening.open(files.video) if opening is not None else None
    job = RenderJob(
        files.video, files.receipts, decoder, show, in_background=in_background, sound=sound
    )
    try:
        job.begin(state, chunk_frames, options.include_start)
        state = _make_chunks(run, job, state, inputs)
        job.finish()
    except BaseException as error:
        left = job.stop(f"{type(error).__name__}: {error}".rstrip(": "))
        run.progress.say(left)
        view.fail(error, left)
        raise
    frames = files.video.frames
    length = f"{count_of(frames, 'frame')}, {frames / options.form.fps:.1f} s"
    joins = _joins(state, decoder, opening)
    notes = _notes(job, joined=joined, joins=joins, in_background=in_background)
    text = "; ".join((length, *notes, *_sound_notes(state, options, sound)))
    run.progress.say(text)
    view.finish(text)
    return RenderedVideo(state, files.video.path, files.subfolder)


def _make_chunks(
    run: StreamRun, job: RenderJob, state: StreamState, inputs: StreamInputs
) -> StreamState:
    """Make and decode the chunks, in one sampling session while the VAE stays beside the model.

    A model is loaded between sessions, never inside one: it could take the room of what samples.
    """
    last = state.chunk_index + inputs.chunks
    decoded = False

    def add(after: StreamState) -> None:
        prompts, chunk = inputs.prompts, after.chunk_index - 1
        job.add(after, prompts.receipt(chunk) if prompts is not None else None)

    def keep(after: StreamState) -> bool:
        nonlocal decoded
        decoded = job.stays_loaded
        if decoded:
            add(after)
        return decoded

    while state.chunk_index < last:
        together = last - state.chunk_index if inputs.prompts is None else 1
        state = run.run(state, together, keep)
        if not decoded:
            add(state)
    return state


def _joins(state: StreamState, decoder: ChunkDecoder, opening: SoundOpening | None) -> bool:
    """Say whether a video that continues a stream is as if it had never ended."""
    seen = not decoder.exact or joins_exactly(state, decoder)
    return seen and (opening is None or opening.joins(state))


def _pictures(images: Tensor, hidden: Tensor | None) -> ChunkPictures:
    still = small_pixels(hidden) if hidden is not None else None
    return ChunkPictures(small_pixels(images), still, "vae", len(images))


def _require_one_video(state: StreamState) -> None:
    if state.latent_shape[0] != 1:
        raise LayoutError(
            "batch of the stream",
            problem=(
                f"the stream makes {state.latent_shape[0]} videos at once, and a file holds one"
            ),
            seen=state.latent_shape[0],
            expected="1, since a file holds one video",
            remedy="set batch_size to 1 on the latent, or use Stream Chunks and Decode Stream",
        )


def _with_vaes_loaded(inputs: StreamInputs, patchers: list[ModelPatcher]) -> StreamInputs:
    """Have the VAEs loaded in one go with the models, so that no session evicts them.

    Under Dynamic VRAM none does anyway: weights make room for each other one by one, where they
    have to. To load a VAE again would change its small weights while they may be in use.
    """

    def loading_all(model: ModelPatcher) -> ModelPatcher:
        clone = model.clone()
        clone.set_additional_models(_VAE, patchers)
        return clone

    low = inputs.model_low_noise
    return replace(
        inputs,
        model=loading_all(inputs.model),
        model_low_noise=loading_all(low) if low is not None else None,
    )


def _notes(job: RenderJob, *, joined: bool, joins: bool, in_background: bool) -> Iterator[str]:
    """Say what an artist should know about a finished video."""
    decoder = job.decoder
    if not joined:
        yield (
            "the stream no longer kept all frames that the VAE needs, so the beginning may not "
            "join the video before without a seam"
        )
    if not joins:
        yield "to continue this video without a seam, raise history_chunks"
    if decoder.note:
        yield decoder.note
    if in_background and not job.can_run_in_background:
        why = (
            "Dynamic VRAM moves its weights in one thread alone"
            if decoder.patcher.is_dynamic()
            else "ComfyUI does not keep the whole VAE on the device"
        )
        yield f"decoded between chunks and not in the background, since {why}"
    if job.loads > 1 and decoder.device.type != "cpu":
        yield (
            f"the VAE had to be loaded {count_of(job.loads, 'time')}, since it finds no room "
            "beside the model: a tiny VAE (TAEHV) needs less"
        )


def _sound_notes(
    state: StreamState, options: RenderOptions, sound: RenderSound | None
) -> Iterator[str]:
    """Say what an artist should know about the sound."""
    if sound is not None and sound.decoder.note:
        yield sound.decoder.note
    if sound is None and state.sound_shape is not None:
        yield "the video is silent: connect audio_vae for the sound of this stream"
    if sound is None and state.sound_shape is None and options.audio_vae is not None:
        yield "the video is silent, since this stream has no sound"
