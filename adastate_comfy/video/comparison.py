"""Several streams as one video: a row for each, its name, its pictures and what it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_management
import numpy as np
import torch
from comfy.sd import VAE
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...adastate_core.errors import ConfigError
from ...adastate_core.stream.state import StreamState
from ..sockets.latents import from_model_space
from .stream_decoding import plan_decoding, run_decoding

_GAP, _MARGIN, _HEADER, _LABEL = 10, 16, 40, 150
_DARK, _LIGHT, _FAINT, _GOLD = (17, 18, 23), (226, 228, 233), (134, 140, 153), (240, 180, 90)
_NOTHING = "no anchor"


@dataclass(frozen=True, slots=True)
class ComparedStream:
    """A stream as a row shows it.

    Args:
        label: Its name.
        images: Its video, (frames, H, W, 3).
        chunk_of: The chunk that each frame belongs to, counted from the first one shown.
        anchors: What the stream has to look back at after each chunk, (H, W, 3), or None.
    """

    label: str
    images: Tensor
    chunk_of: tuple[int, ...]
    anchors: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, label: str, state: StreamState, vae: VAE) -> ComparedStream:
        """Decode a stream and the first frame of its anchor after every chunk.

        Raises:
            ConfigError: If the stream has no chunk whose latents are kept.
        """
        chunks = state.kept_chunks()
        if not chunks:
            raise ConfigError(
                label,
                problem=f"the stream {label!r} has no chunk yet",
                seen="no chunk",
                expected="one or more",
                remedy="put Stream Chunks in front of Compare Streams",
            )
        plan = plan_decoding(state, None, chunks[0].index, 0, include_start=False)
        video = run_decoding(vae, plan)
        anchors = tuple(_anchor_after(state, event.index, vae) for event in chunks)
        place = {event.index: at for at, event in enumerate(chunks)}
        shown = tuple(place[number] for number in video.numbers)
        return cls(label, video.images[0, ..., :3], shown, anchors)


def compare_streams(streams: Sequence[ComparedStream], height: int) -> Tensor:
    """Draw the rows, frame by frame; a shorter stream stays at its last frame.

    Args:
        streams: The rows, top down.
        height: Height of a row's pictures.

    Returns:
        The images, (frames, H, W, 3), with even sides, as videos want them.
    """
    frame = streams[0].images
    width = max(round(height * frame.shape[2] / frame.shape[1]), 1)
    rows = [_Row(stream, (width, height)) for stream in streams]
    names = [row.name for row in rows]
    label = max([_LABEL, *(round(_font(18).getlength(name)) + _GAP for name in names)])
    size = (
        _even(2 * _MARGIN + label + 2 * width + _GAP),
        _even(_HEADER + len(rows) * (height + _GAP) - _GAP + _MARGIN),
    )
    ground = _ground(size, label, width, height, names)
    shown = []
    for index in range(max(len(stream.images) for stream in streams)):
        comfy.model_management.throw_exception_if_processing_interrupted()
        picture = ground.copy()
        for number, row in enumerate(rows):
            row.draw(picture, index, (_MARGIN + label, _HEADER + number * (height + _GAP)))
        shown.append(torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0))
    return torch.stack(shown)


class _Row:
    """The pictures of a stream at the size of its row."""

    def __init__(self, stream: ComparedStream, size: tuple[int, int]) -> None:
        self.name = stream.label
        self._stream, self._size = stream, size
        self._anchors = [
            _picture(anchor, size) if anchor is not None else None for anchor in stream.anchors
        ]

    def draw(self, picture: Image.Image, index: int, corner: tuple[int, int]) -> None:
        """Draw the frame of an index and the anchor of its chunk."""
        index = min(index, len(self._stream.images) - 1)
        left, top = corner
        width, height = self._size
        picture.paste(_picture(self._stream.images[index], self._size), (left, top))
        left += width + _GAP
        anchor = self._anchors[self._stream.chunk_of[index]]
        draw = ImageDraw.Draw(picture)
        box = (left, top, left + width - 1, top + height - 1)
        if anchor is None:
            draw.rectangle(box, outline=_FAINT, width=1)
            middle = (left + width // 2, top + height // 2)
            draw.text(middle, _NOTHING, _FAINT, font=_font(16), anchor="mm")
        else:
            picture.paste(anchor, (left, top))
            draw.rectangle(box, outline=_GOLD, width=2)


def _ground(
    size: tuple[int, int], label: int, width: int, height: int, names: Sequence[str]
) -> Image.Image:
    """Draw what stays: the names of rows and columns."""
    picture = Image.new("RGB", size, _DARK)
    draw = ImageDraw.Draw(picture)
    left = _MARGIN + label
    draw.text((left, _HEADER // 2), "video", _LIGHT, font=_font(16), anchor="lm")
    second = (left + width + _GAP, _HEADER // 2)
    draw.text(second, "what it looks back at", _GOLD, font=_font(16), anchor="lm")
    for number, name in enumerate(names):
        middle = _HEADER + number * (height + _GAP) + height // 2
        draw.text((_MARGIN, middle), name, _LIGHT, font=_font(18), anchor="lm")
    return picture


def _anchor_after(state: StreamState, chunk: int, vae: VAE) -> Tensor | None:
    """Decode the first frame that the anchor holds after a chunk."""
    anchor = state.rewind(chunk).context.anchor
    if anchor is None:
        return None
    samples = from_model_space(state, anchor[:1, :, :1])["samples"]
    image: Tensor = vae.decode(samples)
    return image.reshape(-1, *image.shape[-3:])[0, ..., :3]


def _picture(image: Tensor, size: tuple[int, int]) -> Image.Image:
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _even(side: int) -> int:
    return side + side % 2
