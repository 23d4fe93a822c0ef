"""Compose the demo's picture: frames of every chunk and, below them, its hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

_SCALE = 2
_COLUMNS = 8  # chunks side by side, then a new band
_GAP = 8
_MARGIN = 28
_LABEL_WIDTH = 124
_HEADER = 76
_CAPTION = 26

_BACKGROUND = (17, 18, 23)
_TEXT = (226, 228, 233)
_FAINT = (134, 140, 153)
_STATE = (240, 180, 90)


@dataclass(frozen=True)
class ChunkPictures:
    """What the sheet shows of one chunk."""

    index: int
    frames: Sequence[Image.Image]
    state: Image.Image | None


def read_frames(video: Path) -> list[Image.Image]:
    """Return all frames of a video file."""
    with av.open(str(video)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def split_chunks(
    frames: Sequence[Image.Image],
    states: Sequence[Image.Image],
    chunks: int,
    chunk_frames: int,
) -> list[ChunkPictures]:
    """Assign frames and state pictures to chunks; two frames of each, its first and middle one.

    A stream of T latent frames decodes to 1 + s (T - 1) frames, so the first chunk is shorter.

    Args:
        frames: The frames of the decoded stream.
        states: One picture per chunk, or the hidden states decoded as one clip; may be empty.
        chunks: How many chunks the stream has.
        chunk_frames: Latent frames to a chunk.
    """
    latents = chunks * chunk_frames
    stride = max(round((len(frames) - 1) / max(latents - 1, 1)), 1)
    state_step = stride if len(states) == 1 + stride * (chunks - 1) else 1
    pictures = []
    for index in range(chunks):
        first = 0 if index == 0 else 1 + stride * (index * chunk_frames - 1)
        last = min(stride * ((index + 1) * chunk_frames - 1), len(frames) - 1)
        first = min(first, last)
        state = index * state_step
        pictures.append(
            ChunkPictures(
                index=index,
                frames=(frames[first], frames[(first + last + 1) // 2]),
                state=states[state] if state < len(states) else None,
            )
        )
    return pictures


def compose(chunks: Sequence[ChunkPictures], title: str, subtitle: str) -> Image.Image:
    """Return the sheet: chunks are columns, in bands of at most eight."""
    width, height = (side * _SCALE for side in chunks[0].frames[0].size)
    labels = ["first frame", "middle frame"]
    if any(chunk.state for chunk in chunks):
        labels.append("hidden state")
    columns = min(len(chunks), _COLUMNS)
    bands = -(-len(chunks) // columns)
    band_height = _CAPTION + len(labels) * (height + _GAP) + _GAP
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + _LABEL_WIDTH + columns * (width + _GAP) - _GAP,
            2 * _MARGIN + _HEADER + bands * band_height + (bands - 1) * _MARGIN,
        ),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _TEXT, font=ImageFont.load_default(28))
    draw.text((_MARGIN, _MARGIN + 34), subtitle, _FAINT, font=ImageFont.load_default(16))
    for number, chunk in enumerate(chunks):
        band, column = divmod(number, columns)
        top = _MARGIN + _HEADER + band * (band_height + _MARGIN)
        left = _MARGIN + _LABEL_WIDTH + column * (width + _GAP)
        caption = ImageFont.load_default(15)
        draw.text((left, top), f"chunk {chunk.index}", _FAINT, font=caption)
        pictures = [*chunk.frames, *([chunk.state] if chunk.state else [])]
        for row, picture in enumerate(pictures):
            y = top + _CAPTION + row * (height + _GAP)
            is_state = row == len(chunk.frames)
            y += _GAP if is_state else 0
            if column == 0:
                colour = _STATE if is_state else _FAINT
                draw.text((_MARGIN, y + height // 2 - 8), labels[row], colour, font=caption)
            enlarged = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (left, y))
            if is_state:
                box = (left - 2, y - 2, left + width + 1, y + height + 1)
                draw.rectangle(box, outline=_STATE, width=2)
    return sheet
