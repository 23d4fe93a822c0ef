"""The files of one render: a video and what is written beside it, under one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy.sd import VAE

from ...adastate_core.files.receipts import SUFFIX as RECEIPTS_SUFFIX
from ...adastate_core.files.receipts import ReceiptFile
from ...adastate_core.files.state_file import SUFFIX as STATE_SUFFIX
from ...adastate_core.stream.state import StreamState
from ...adastate_core.stream.summary import receipt
from ..output_names import find_target
from ..page_metadata import page_metadata
from .encoders import Codec
from .sound_track import SoundFormat
from .video_file import VideoFile, disk_error

STOPPED_SUFFIX = f".stopped{STATE_SUFFIX}"
_ENDINGS = (".mp4", RECEIPTS_SUFFIX, STOPPED_SUFFIX, STATE_SUFFIX)
"""Of the video, its receipts, and the stream if it has to be saved; all have one number.

The last is what such a stream was called before: its number is taken as well.
"""


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """How a video is encoded.

    Args:
        fps: Frames per second.
        crf: Quality of the encoder, the lower the better.
        codec: Name of the codec.
    """

    fps: float
    crf: float
    codec: Codec


@dataclass(frozen=True, slots=True)
class RenderFiles:
    """The open files of one render.

    Args:
        video: The video; nothing is written yet.
        receipts: The receipts, which begin with what is known before the first chunk.
        subfolder: Their folder below the output folder, as ComfyUI's page wants it.
    """

    video: VideoFile
    receipts: ReceiptFile
    subfolder: str


@dataclass(frozen=True, slots=True)
class RenderSize:
    """How large a video gets.

    Args:
        width: Width of the images.
        height: Height of the images.
        frames: Frames of the file, or a few more than it will have.
        parts: The same for the parts that it is written in.
    """

    width: int
    height: int
    frames: int
    parts: int

    @classmethod
    def of(cls, state: StreamState, vae: VAE, chunks: int, chunk_frames: int) -> RenderSize:
        """Work it out from the stream before its first new chunk."""
        scale = vae.spacial_compression_decode()
        stride = vae.temporal_compression_decode() or 1
        given = state.next_frame if state.chunk_index == 0 else 0
        return cls(
            width=state.latent_shape[3] * scale,
            height=state.latent_shape[2] * scale,
            frames=(given + chunks * chunk_frames) * stride,
            parts=given + chunks,
        )


def open_files(
    prefix: str,
    size: RenderSize,
    form: VideoFormat,
    *,
    state: StreamState,
    family: str,
    sound: SoundFormat | None,
    prompt: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None,
) -> RenderFiles:
    """Claim a number for a prefix and open its files.

    Args:
        prefix: The widget `filename_prefix`.
        size: Size of the video.
        form: How it is encoded.
        state: The stream before its first new chunk.
        family: Family of the model.
        sound: What the sound of the video is; None for a silent one.
        prompt: The hidden input of that name.
        extra: The hidden input `extra_pnginfo`.

    Raises:
        ConfigError: If the prefix cannot be used.
        VideoFileError: If a file cannot be made; none is left then.
    """
    pixels = (size.width, size.height)
    endings = [f"_00001_{ending}" for ending in _ENDINGS]
    target = find_target(prefix, pixels, endings, prompt, extra)
    path = target.claim("_{:05}_", _ENDINGS)
    head = {
        "video": path.name,
        "fps": form.fps,
        "size": pixels,
        "codec": form.codec,
        "crf": form.crf,
        **({"sound_rate": sound.rate, "sound_channels": sound.channels} if sound else {}),
        "model": family,
        "first_chunk": state.chunk_index,
        "before": [receipt(event) for event in state.events],
    }
    try:
        video = VideoFile(
            path,
            pixels,
            fps=form.fps,
            crf=form.crf,
            codec=form.codec,
            metadata=page_metadata(prompt, extra),
            expected=(size.frames, size.parts),
            sound=sound,
        )
        receipts = _open_receipts(path.with_suffix(RECEIPTS_SUFFIX), head)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return RenderFiles(video, receipts, target.subfolder)


def _open_receipts(path: Path, head: dict[str, Any]) -> ReceiptFile:
    try:
        return ReceiptFile(path, head)
    except OSError as error:
        raise disk_error(path, error) from error
