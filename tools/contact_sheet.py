"""Draw frames and hidden states: the canvas of all pictures, and the demo's contact sheet."""

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

Colour = tuple[int, int, int]
DARK: Colour = (17, 18, 23)
LIGHT: Colour = (226, 228, 233)
FAINT: Colour = (134, 140, 153)
GOLD: Colour = (240, 180, 90)


class Canvas:
    """A dark picture on which frames and words are placed; hidden states get a golden frame."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), DARK)
        self._draw = ImageDraw.Draw(self.image)

    def frame(
        self, picture: Image.Image, x: int, y: int, size: tuple[int, int], *, hidden: bool
    ) -> None:
        """Place one frame, resized to a width and a height."""
        self.image.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), (x, y))
        if hidden:
            box = (x - 2, y - 2, x + size[0] + 1, y + size[1] + 1)
            self._draw.rectangle(box, outline=GOLD, width=2)

    def words(self, text: str, x: int, y: int, colour: Colour, size: int) -> None:
        """Write, with the left upper corner at a place."""
        self._draw.text((x, y), text, colour, font=ImageFont.load_default(size))


@dataclass(frozen=True)
class ChunkPictures:
    """What the sheet shows of one chunk."""

    index: int
    frames: Sequence[Image.Image]
    state: Image.Image | None


def fitted(picture: Image.Image, width: int, height: int) -> tuple[int, int]:
    """Return the largest size of a picture's shape that a box holds.

    >>> fitted(Image.new("RGB", (192, 112)), 240, 240)
    (240, 140)
    """
    scale = min(width / picture.width, height / picture.height)
    return round(scale * picture.width), round(scale * picture.height)


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
    canvas = Canvas(
        2 * _MARGIN + _LABEL_WIDTH + columns * (width + _GAP) - _GAP,
        2 * _MARGIN + _HEADER + bands * band_height + (bands - 1) * _MARGIN,
    )
    canvas.words(title, _MARGIN, _MARGIN - 6, LIGHT, 28)
    canvas.words(subtitle, _MARGIN, _MARGIN + 34, FAINT, 16)
    for number, chunk in enumerate(chunks):
        band, column = divmod(number, columns)
        top = _MARGIN + _HEADER + band * (band_height + _MARGIN)
        left = _MARGIN + _LABEL_WIDTH + column * (width + _GAP)
        canvas.words(f"chunk {chunk.index}", left, top, FAINT, 15)
        pictures = [*chunk.frames, *([chunk.state] if chunk.state else [])]
        for row, picture in enumerate(pictures):
            hidden = row == len(chunk.frames)
            y = top + _CAPTION + row * (height + _GAP) + (_GAP if hidden else 0)
            if column == 0:
                colour = GOLD if hidden else FAINT
                canvas.words(labels[row], _MARGIN, y + height // 2 - 8, colour, 15)
            canvas.frame(picture, left, y, (width, height), hidden=hidden)
    return canvas.image
