"""Paints and encodes real clips of the panorama, and keeps their latents on disk.

They teach the reader, are what streams are compared to, and are the controls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.anchors.latents import write_whole
from training.measure.moments import STRIDE
from training.measure.space import Space, pieces
from training.panorama.canvas import Canvas
from training.panorama.journey import HEIGHT, WIDTH, Journey, truth
from training.panorama.prompts import LIGHTS, Prompt
from training.panorama.render import BATCH_CPU, finish, paint_panorama, render
from training.settings import CHUNK_FRAMES

Pair = tuple[Prompt, int]
# Changes bytes ``(B, T, 3, H, W)`` at times ``(B, T)`` in pictures since departure.
Change = Callable[[Tensor, Tensor], Tensor]
# Latent frames before a chunk that is encoded alone.
BEFORE = 2


def name_of(prompt: Prompt, seed: int) -> str:
    """A short name for files, of a prompt and a seed."""
    return hashlib.sha256(f"{seed}: {prompt.text}".encode()).hexdigest()[:16]


def kept(paths: Sequence[Path], make: Callable[[list[int]], Tensor]) -> list[Tensor]:
    """Return the latents of files; make those that are missing first, two by two.

    They are kept in half precision, and returned as they are kept.

    Args:
        paths: A file for each clip.
        make: Makes clips of these numbers, stacked.
    """
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    for at in range(0, len(missing), 2):
        some = missing[at : at + 2]
        for index, clip in zip(some, make(some), strict=True):
            paths[index].parent.mkdir(parents=True, exist_ok=True)
            write(paths[index], {"latents": clip})
    return [load_file(path)["latents"].float() for path in paths]


def write(path: Path, latents: dict[str, Tensor]) -> None:
    """Write tensors in half precision, aside and renamed: a stop may come at any moment."""
    write_whole({name: value.half() for name, value in latents.items()}, path)


@torch.no_grad()
def empty_world(journeys: Sequence[Journey], times: Tensor) -> Tensor:
    """Paint as ``render`` does, but without a subject."""
    told = truth(journeys, times)
    out = []
    for row, journey in enumerate(journeys):
        for part in torch.arange(times.shape[1]).split(BATCH_CPU):
            many = len(part)
            canvas = Canvas.stretch(
                journey.departure + told.place[row, part],
                told.light[row, part],
                torch.full((many,), float(journey.prompt.light == LIGHTS[2])),
                times[row, part].to(torch.float32),
                torch.full((many,), journey.salt),
            )
            paint_panorama(canvas)
            out.append(finish(canvas))
    return torch.cat(out).view(*times.shape, 3, HEIGHT, WIDTH)


def real_clips(
    space: Space, pairs: Sequence[Pair], chunks: int, change: Change | None = None
) -> Tensor:
    """Encode the world itself from departure on: ``(N, 16, 3 chunks, 14, 24)``, normalised."""
    journeys = [Journey.draw(*pair) for pair in pairs]
    latents = []
    for count, span in pieces(CHUNK_FRAMES * chunks):
        times = torch.arange(span.start, span.stop, dtype=torch.float32).expand(len(pairs), -1)
        pictures = render(journeys, times)
        if change is not None:
            pictures = change(pictures, times)
        latents.append(space.encode(pictures)[:, :, -count:])
    return torch.cat(latents, 2)


def real_chunks(space: Space, pairs: Sequence[Pair], chunk: int) -> Tensor:
    """Encode one chunk of the world: ``(N, 16, 3, 14, 24)``, normalised."""
    last = CHUNK_FRAMES * (chunk + 1) - 1
    first = max(0, CHUNK_FRAMES * chunk - BEFORE)
    times = torch.arange(STRIDE * first, STRIDE * last + 1, dtype=torch.float32)
    pictures = render([Journey.draw(*pair) for pair in pairs], times.expand(len(pairs), -1))
    return space.encode(pictures)[:, :, -CHUNK_FRAMES:]
