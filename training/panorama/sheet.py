"""Writes contact sheets of the panorama: what there is to see, at a glance.

``python -m training.panorama.sheet --out output/world`` writes five pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from training.panorama import subject
from training.panorama.canvas import Canvas
from training.panorama.journey import ACCENTS, PATTERNS, Journey, truth
from training.panorama.prompts import COLOURS, REGION_LENGTH, REGIONS, SUBJECTS, Prompt
from training.panorama.render import finish, paint_panorama, render

LIGHTS = (0.0, 0.3, 0.5, 0.74, 1.0)
GAP = 4
EXAMPLE = Prompt(
    "red", "balloon", "circling left", "right", "steady", "coast", "town", "as night falls"
)


def tile(pictures: Tensor, across: int, scale: int = 1) -> Image.Image:
    """Lay pictures ``(N, 3, H, W)`` out in rows on a dark ground."""
    count, _, height, width = pictures.shape
    down = -(-count // across)
    sheet = torch.full(
        (down * (height + GAP) + GAP, across * (width + GAP) + GAP, 3), 24, dtype=torch.uint8
    )
    for index, picture in enumerate(pictures.cpu()):
        top, left = (
            GAP + place * (size + GAP)
            for place, size in zip(divmod(index, across), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = picture.movedim(0, -1)
    image = Image.fromarray(sheet.numpy())
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


@torch.no_grad()
def views(
    places: Sequence[float],
    lights: Sequence[float],
    journeys: Sequence[Journey] | None,
    salt: int,
    dawn: bool = False,
) -> Tensor:
    """Paint the panorama at places of the ring, with subjects as journeys at their departure."""
    count = len(places)
    canvas = Canvas.stretch(
        torch.tensor(places, dtype=torch.float32),
        torch.tensor(lights, dtype=torch.float32),
        torch.full((count,), float(dawn)),
        torch.zeros(count),
        torch.full((count,), salt),
    )
    paint_panorama(canvas)
    if journeys is not None:
        told = truth(journeys, torch.zeros(count, 1))
        looks = subject.Looks.of(journeys, told, canvas.light.device)
        subject.paint_subject(canvas, looks, told.x[:, 0], told.y[:, 0])
    return finish(canvas)


def regions(salt: int) -> Image.Image:
    """Every region from day to night, each with some subject."""
    places = [(index + 0.5) * REGION_LENGTH for index in range(len(REGIONS)) for _ in LIGHTS]
    journeys = []
    for index in range(len(places)):
        colour = COLOURS[(index * 5 + index // 5) % len(COLOURS)]
        prompt = replace(EXAMPLE, colour=colour, subject=SUBJECTS[(index + index // 5) % 4])
        journeys.append(Journey.draw(prompt, index))
    return tile(views(places, LIGHTS * len(REGIONS), journeys, salt), len(LIGHTS))


def dawns(salt: int) -> Image.Image:
    """Every region as day breaks."""
    places = [(index + 0.5) * REGION_LENGTH for index in range(len(REGIONS)) for _ in LIGHTS]
    return tile(views(places, LIGHTS[::-1] * len(REGIONS), None, salt, True), len(LIGHTS))


def changes(salt: int) -> Image.Image:
    """Every change from one region into the next."""
    steps = (-240.0, -120.0, -40.0, 40.0, 120.0, 240.0)
    places = [(index + 1) * REGION_LENGTH + step for index in range(len(REGIONS)) for step in steps]
    lights = [0.08 * index for index in range(len(REGIONS)) for _ in steps]
    return tile(views(places, lights, None, salt), len(steps))


def subjects(salt: int) -> Image.Image:
    """Every subject in every colour and pattern, by day and by night."""
    journeys = []
    for name in SUBJECTS:
        for night in (0, 1):
            for colour in COLOURS:
                for index, pattern in enumerate(PATTERNS):
                    drawn = Journey.draw(replace(EXAMPLE, colour=colour, subject=name), 0)
                    accent = ACCENTS[(index + night) % 2]
                    drawn = replace(drawn, pattern=pattern, accent=accent, phase=0.0)
                    journeys.append(replace(drawn, centre=(96.0, 40.0), reach=(0.0, 0.0)))
    block = len(COLOURS) * len(PATTERNS)
    lights = ([0.0] * block + [1.0] * block) * len(SUBJECTS)
    pictures = views([1080.0] * len(journeys), lights, journeys, salt)
    return tile(pictures[:, :, 12:76, 68:124], block)


def journey(prompt: Prompt, seed: int, chunks: int = 60) -> Image.Image:
    """One picture of each chunk of a way, row by row."""
    times = torch.arange(chunks, dtype=torch.float32)[None] * 12.0
    return tile(render([Journey.draw(prompt, seed)], times)[0], 10)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write contact sheets of the panorama.")
    parser.add_argument("--out", type=Path, default=Path("output/world"))
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, image in (
        ("regions", regions(options.seed)),
        ("dawns", dawns(options.seed)),
        ("changes", changes(options.seed)),
        ("subjects", subjects(options.seed)),
        ("journey", journey(EXAMPLE, options.seed)),
    ):
        path = options.out / f"{name}.png"
        image.save(path)
        print(path)


if __name__ == "__main__":
    main()
