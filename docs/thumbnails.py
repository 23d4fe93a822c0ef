"""Cards of the templates: animated, though their names end in `.jpg`.

ComfyUI's page asks for `<name>.jpg` beside every workflow of a pack, and for nothing else. A
browser goes by the content of a picture: these are WebP animations, and they move.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tools.contact_sheet import DARK, FAINT, Canvas, fitted

WIDTH, HEIGHT = 512, 288
MOST_BYTES = 250_000
_SIDE, _EDGE, _FRAMES_PER_SECOND = 240, 10, 6


def named(frame: Image.Image, words: str) -> Image.Image:
    """Return a frame in the middle of a card, with words below it."""
    canvas = Canvas(WIDTH, HEIGHT)
    size = fitted(frame, WIDTH - 2 * _EDGE, _SIDE)
    left = (WIDTH - size[0]) // 2
    canvas.frame(frame, left, 12, size, hidden=False)
    canvas.words(words, left, 258, FAINT, 18)
    return canvas.image


def beside(one: Image.Image, other: Image.Image, *, hidden: bool = True) -> Image.Image:
    """Return two frames side by side, the second one with a golden frame if it is hidden."""
    canvas = Canvas(WIDTH, HEIGHT)
    size = fitted(one, _SIDE, _SIDE)
    top = (HEIGHT - size[1]) // 2
    canvas.frame(one, _EDGE, top, size, hidden=False)
    canvas.frame(other, WIDTH - _EDGE - size[0], top, size, hidden=hidden)
    return canvas.image


def save_thumbnail(path: Path, frames: Sequence[Image.Image], fps: int) -> None:
    """Write an animation that loops, at half the frames, as good as its size allows.

    Args:
        path: The file; its ending says nothing of its content.
        frames: What it shows, at the speed of the video.
        fps: Frames per second of the video.
    """
    step = max(fps // _FRAMES_PER_SECOND, 1)
    first, *others = [_fitted(frame) for frame in frames[::step]]
    for quality in (70, 50, 30, 15):
        first.save(
            path,
            format="WEBP",
            save_all=True,
            append_images=others,
            duration=round(1000 * step / fps),
            loop=0,
            quality=quality,
            method=6,
        )
        if path.stat().st_size <= MOST_BYTES:
            return


def _fitted(frame: Image.Image) -> Image.Image:
    """Return a frame as wide as a card at most, and half again as high."""
    picture = frame.convert("RGB")
    if picture.size == (WIDTH, HEIGHT):
        return picture
    picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    ground = Image.new("RGB", (WIDTH, picture.height), DARK)
    ground.paste(picture, ((WIDTH - picture.width) // 2, 0))
    return ground
