"""Draws the strip: one prompt and seed under each anchor, and the world itself, over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from training.measure.clips import Pair
from training.measure.evaluate import Plan
from training.measure.ink import FAINT, LIGHT, Card, colour_of
from training.measure.moments import STRIDE
from training.measure.space import Space
from training.measure.streams import Kept, Row, Source
from training.panorama.journey import FPS, HEIGHT, WIDTH, Journey
from training.panorama.render import render
from training.settings import CHUNK_FRAMES

COLUMNS = (0, 5, 10, 20, 30, 45, 59)
# Latent frames before a chunk that its decoder looks back at.
BEFORE = 3
LABEL, GAP, TOP, MARGIN = 150, 6, 96, 20


def last_picture(chunk: int) -> int:
    return STRIDE * (CHUNK_FRAMES * (chunk + 1) - 1)


def picture_of(pixels: Tensor) -> Image.Image:
    """Turn ``(3, H, W)`` in 0 to 1 into a picture."""
    return Image.fromarray((pixels * 255.0).round().to(torch.uint8).movedim(0, -1).numpy())


def decoded(space: Space, latents: Tensor, chunks: Sequence[int]) -> list[Image.Image]:
    """Decode the last picture of some chunks of a stream ``(16, 3 K, h, w)``."""
    found = []
    for chunk in chunks:
        end = CHUNK_FRAMES * (chunk + 1)
        cut = latents[None, :, max(0, end - CHUNK_FRAMES - BEFORE) : end]
        found.append(picture_of(space.decode(cut)[0, -1]))
    return found


def painted(pair: Pair, chunks: Sequence[int]) -> list[Image.Image]:
    """Paint the last picture of some chunks of the world itself."""
    times = torch.tensor([[last_picture(chunk) for chunk in chunks]], dtype=torch.float32)
    return [picture_of(one.float() / 255.0) for one in render([Journey.draw(*pair)], times)[0]]


def compose(title: str, chunks: Sequence[int], rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Lay pictures out: rows from top to bottom with their names, chunks from left to right."""
    across, down = WIDTH + GAP, HEIGHT + GAP
    card = Card(LABEL + len(chunks) * across + 2 * MARGIN - GAP, TOP + len(rows) * down + MARGIN)
    card.words(title, MARGIN, 16, 21, LIGHT)
    for column, chunk in enumerate(chunks):
        seconds = last_picture(chunk) / FPS
        text = f"chunk {chunk}, {seconds:.0f} s"
        card.words(text, MARGIN + LABEL + column * across + WIDTH / 2, 66, 15, FAINT, "ma")
    for index, (name, pictures) in enumerate(rows.items()):
        top = TOP + index * down
        # The last row is the world, which is no anchor.
        colour = FAINT if index == len(rows) - 1 else colour_of(index)
        for part, text in enumerate(name.split("\n")):
            card.words(text, MARGIN, top + HEIGHT / 2 - 10 + 20 * part, 17, colour, "lm")
        for column, picture in enumerate(pictures):
            card.paste(picture, MARGIN + LABEL + column * across, top, WIDTH, HEIGHT)
    return card.finished()


def draw_strip(
    space: Space, plan: Plan, rows: Sequence[tuple[Row, Source]], path: Path, which: int = 0
) -> Path:
    """Draw one of the plan's prompts and write it."""
    pair = plan.pairs[which]
    chunks = [chunk for chunk in COLUMNS if chunk < plan.chunks]
    streams = Kept(plan.folder / "streams")
    pictures: dict[str, list[Image.Image]] = {}
    for row, source in rows:
        # Of a row that was trained from several seeds the first is shown.
        if row.name not in pictures:
            clip = streams.load(source, pair, plan.chunks)
            pictures[row.name] = decoded(space, clip, chunks)
    pictures["the world\n(the ideal)"] = painted(pair, chunks)
    words = pair[0].text
    compose(words[0].upper() + words[1:], chunks, pictures).save(path, optimize=True)
    return path
