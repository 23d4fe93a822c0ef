"""Draw the cards of the templates with sound, whose models are too large to run for a picture.

python -m docs.sound_cards
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tools.contact_sheet import DARK, FAINT, GOLD, LIGHT, Colour

WORKFLOWS = Path(__file__).parents[1] / "workflows"
CARDS = {
    "12 Stream MiniMax H3 with sound": ("MiniMax H3", 5),
    "13 Stream LTX-2 with sound": ("LTX-2", 3),
}
"""The name of the model, and how many frames a chunk of it has."""
SIDE, SCALE, CHUNKS, SHOWN_FOR = 512, 2, 3, 900
BLUE: Colour = (111, 168, 220)
GREEN: Colour = (124, 192, 143)
_STATE, _CONTENT, _TOP, _PITCH, _HEIGHT = (40, 114), (150, 464), 148, 104, 44


def card(title: str, frames: int, made: int) -> Image.Image:
    """Return the card when so many chunks are made."""
    picture = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), DARK)
    draw = ImageDraw.Draw(picture)
    _words(draw, title, 36, 34, 38, LIGHT)
    _words(draw, "pictures and sound, chunk by chunk", 36, 90, 19, FAINT)
    for row in range(made):
        top = _TOP + row * _PITCH
        _box(draw, _STATE, top, GOLD)
        width = (_CONTENT[1] - _CONTENT[0] + 10) / frames
        for i in range(frames):
            left = _CONTENT[0] + i * width
            _box(draw, (left, left + width - 10), top, BLUE)
        _sound(draw, top + _HEIGHT + 20, row)
        if row + 1 < made:
            for x, colour in ((sum(_STATE) / 2, GOLD), (sum(_CONTENT) / 2, BLUE)):
                _arrow(draw, x, top + _PITCH - 26, colour)
    for text, x, colour in (("state", 52, GOLD), ("pictures", 206, BLUE), ("sound", 350, GREEN)):
        _words(draw, text, x, 462, 20, colour)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _sound(draw: ImageDraw.ImageDraw, middle: float, row: int) -> None:
    """Draw the loudness of a chunk's sound, which goes on from chunk to chunk."""
    bars = 62
    for i in range(bars):
        at = row * bars + i
        loud = abs(math.sin(at * 0.21) * math.sin(at * 0.047 + 0.6)) ** 0.7
        x, reach = _CONTENT[0] + i * (_CONTENT[1] - _CONTENT[0]) / (bars - 1), 1 + 11 * loud
        _line(draw, x, middle - reach, x, middle + reach, GREEN)


def _arrow(draw: ImageDraw.ImageDraw, x: float, top: float, colour: Colour) -> None:
    _line(draw, x, top, x, top + 10, colour)
    points = [(x - 6, top + 9), (x + 6, top + 9), (x, top + 19)]
    draw.polygon([(a * SCALE, b * SCALE) for a, b in points], fill=colour)


def _line(
    draw: ImageDraw.ImageDraw, x: float, y: float, right: float, bottom: float, colour: Colour
) -> None:
    draw.line([(x * SCALE, y * SCALE), (right * SCALE, bottom * SCALE)], colour, 3 * SCALE // 2)


def _box(draw: ImageDraw.ImageDraw, across: tuple[float, float], top: float, edge: Colour) -> None:
    """Draw one frame, filled with a dark shade of its edge."""
    left, right = across
    inside = tuple((2 * ground + line) // 3 for ground, line in zip(DARK, edge, strict=True))
    box = [left * SCALE, top * SCALE, right * SCALE, (top + _HEIGHT) * SCALE]
    draw.rounded_rectangle(box, 8 * SCALE, fill=inside, outline=edge, width=2 * SCALE)


def _words(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, size: int, colour: Colour) -> None:
    font = ImageFont.load_default(size * SCALE)
    draw.text((x * SCALE, y * SCALE), text, colour, font=font)


def main() -> None:
    """Write all cards."""
    for name, (title, frames) in CARDS.items():
        first, *others = [card(title, frames, made) for made in range(1, CHUNKS + 1)]
        first.save(
            WORKFLOWS / f"{name}.jpg",
            format="WEBP",
            save_all=True,
            append_images=others,
            duration=SHOWN_FOR,
            loop=0,
            quality=80,
            method=6,
        )


if __name__ == "__main__":
    main()
