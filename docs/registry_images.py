"""Icon and banner of the pack in the registry, drawn from frames of a real run.

`docs.make_pictures` calls this after it ran the timeline, in which a red ball becomes a yellow
star. The registry wants a square of at most 400 pixels and a banner of 21:9.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

DARK, NIGHT, LIGHT, GOLD = (
    (17, 18, 23),
    (30, 33, 48),
    (236, 238, 243),
    (240, 180, 90),
)
ICON, BANNER = 400, (1260, 540)
SCALE = 2
"""Everything is drawn larger and made smaller at the end, for smooth edges."""

Point = tuple[float, float]


def icon(before: Image.Image, between: Image.Image, now: Image.Image) -> Image.Image:
    """Return three hidden states behind one another, the newest in front."""
    picture = _background(ICON, ICON)
    side, corners = 212, (28, 94, 160)
    for image, corner, shade in zip((before, between), corners, (0.7, 0.85), strict=False):
        _card(picture, image, (corner, corner), side, radius=26, shade=shade)
    _card(picture, now, (corners[2], corners[2]), side, radius=26, frame=8)
    rounded = Image.new("L", picture.size, 0)
    box = (0, 0, picture.width - 1, picture.height - 1)
    ImageDraw.Draw(rounded).rounded_rectangle(box, radius=72 * SCALE, fill=255)
    picture.putalpha(rounded)
    return picture.resize((ICON, ICON), Image.Resampling.LANCZOS)


def banner(frames: Sequence[Image.Image], states: Sequence[Image.Image]) -> Image.Image:
    """Return a stream that comes in on the left and leaves on the right.

    Args:
        frames: One frame of each chunk.
        states: The hidden state of each; as many.
    """
    picture = _background(*BANNER)
    side, small, gap, top, below = 146, 98, 24, 184, 404
    step = side + gap
    left = (BANNER[0] - len(frames) * step + gap) / 2
    middles = [left + k * step + side / 2 for k in range(len(frames))]
    for k, middle in enumerate(middles):
        if k:  # the state of a chunk is what the next chunk looks back at
            _arrow(picture, (middles[k - 1], below - 9), (middle, top + side + 9))
        _card(picture, frames[k], (middle - side / 2, top), side, radius=14)
        _card(picture, states[k], (middle - small / 2, below), small, radius=12, frame=4)
    _fade_sides(picture, 120)
    picture = picture.resize(BANNER, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    draw.text((62, 26), "AdaState", LIGHT, font=ImageFont.load_default(84))
    line = "Streaming video with a memory that evolves"
    draw.text((68, 126), line, GOLD, font=ImageFont.load_default(30))
    return picture


def _background(width: int, height: int) -> Image.Image:
    """Return a dark picture, a little lighter at its top."""
    column = Image.linear_gradient("L").resize((width * SCALE, height * SCALE))
    light = Image.new("RGB", column.size, NIGHT)
    return Image.composite(Image.new("RGB", column.size, DARK), light, column)


def _card(
    picture: Image.Image,
    image: Image.Image,
    corner: Point,
    side: int,
    *,
    radius: int,
    frame: int = 0,
    shade: float = 1.0,
) -> None:
    """Place a frame with round corners, glowing gold where it has a frame of its own."""
    x, y = (round(c * SCALE) for c in corner)
    size, line = side * SCALE, frame * SCALE
    shape = Image.new("L", (size, size), 0)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, size - 1, size - 1), radius * SCALE, fill=255)
    glow = Image.new("L", picture.size, 0)
    glow.paste(shape, (x, y))
    glow = glow.filter(ImageFilter.GaussianBlur(12 * SCALE)).point(lambda v: round(v * 0.45))
    picture.paste(GOLD if frame else (0, 0, 0), mask=glow)
    # Of a wide frame, its middle.
    large = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    large = Image.blend(Image.new("RGB", large.size, DARK), large, shade)
    picture.paste(large, (x, y), shape)
    if frame:
        box = (x - line // 2, y - line // 2, x + size + line // 2, y + size + line // 2)
        draw = ImageDraw.Draw(picture)
        draw.rounded_rectangle(box, radius * SCALE + line // 2, outline=GOLD, width=line)


def _arrow(picture: Image.Image, start: Point, end: Point) -> None:
    """Draw a line that leaves a card at its top and arrives at another from below."""
    (x0, y0), (x1, y1) = ((x * SCALE, y * SCALE) for x, y in (start, end))
    head = 13 * SCALE
    middle, last = (y0 + y1) / 2, y1 + head
    path = []
    for i in range(65):
        t = i / 64
        a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
        path.append(((a + b) * x0 + (c + d) * x1, a * y0 + (b + c) * middle + d * last))
    draw = ImageDraw.Draw(picture)
    draw.line(path, GOLD, 3 * SCALE, joint="curve")
    draw.polygon([(x1, y1), (x1 - 0.6 * head, last), (x1 + 0.6 * head, last)], GOLD)


def _fade_sides(picture: Image.Image, width: int) -> None:
    """Let a picture come out of the dark on the left, and go back into it on the right."""
    ramp = Image.linear_gradient("L").rotate(90).resize((width * SCALE, picture.height))
    seen = Image.new("L", picture.size, 255)
    seen.paste(ramp, (0, 0))
    seen.paste(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (picture.width - ramp.width, 0))
    picture.paste(Image.composite(picture, _background(*BANNER), seen))
