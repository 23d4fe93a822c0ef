"""Rows that say whether the measurement works: the world itself, and what is wrong in one way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training.measure.clips import Change, Pair, kept, name_of, real_chunks, real_clips
from training.measure.moments import Array
from training.measure.reader import Reader
from training.measure.space import Space
from training.settings import CHUNK_FRAMES

REAL, SHUFFLED, REPEATED, STILL, OTHER, FADED = (
    "the world itself",
    "its chunks shuffled",
    "one chunk repeated",
    "one frame repeated",
    "another prompt's world",
    "the world, colours drifting",
)
CONTROLS = (REAL, SHUFFLED, REPEATED, STILL, OTHER, FADED)
# How far saturation and brightness have gone when a drifting clip ends.
SATURATION, BRIGHTNESS = 0.6, 0.15
REFERENCE_SEED = 8_000_000


class Drifting:
    """A change of pictures that slowly makes them gaudy and bright, as streams do that drift."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(self, pictures: Tensor, times: Tensor) -> Tensor:
        """Change bytes ``(B, T, 3, H, W)`` at times ``(B, T)``."""
        share = (times / self.frames).clamp(0.0, 1.0)[:, :, None, None, None]
        grey = pictures.float().mean(2, keepdim=True)
        gaudy = grey + (pictures.float() - grey) * (1.0 + SATURATION * share)
        bright = gaudy * (1.0 + BRIGHTNESS * share)
        return bright.round().clamp(0.0, 255.0).to(torch.uint8)


def shuffled(clip: Tensor, seed: int) -> Tensor:
    """Put the chunks of a clip ``(16, 3 K, h, w)`` into another order."""
    generator = torch.Generator().manual_seed(seed)
    chunks = clip.unflatten(1, (-1, CHUNK_FRAMES))
    order = torch.randperm(chunks.shape[1], generator=generator)
    mixed: Tensor = chunks.index_select(1, order).flatten(1, 2)
    return mixed


def repeated(clip: Tensor) -> Tensor:
    """Show the second chunk for ever: the first one begins with a frame of a single picture."""
    chunk = clip[:, CHUNK_FRAMES : 2 * CHUNK_FRAMES]
    return chunk.repeat(1, clip.shape[1] // CHUNK_FRAMES, 1, 1)


def still(clip: Tensor) -> Tensor:
    """Show one latent frame for ever."""
    return clip[:, CHUNK_FRAMES : CHUNK_FRAMES + 1].repeat(1, clip.shape[1], 1, 1)


def controls(
    folder: Path, space: Space, pairs: Sequence[Pair], chunks: int
) -> dict[str, list[Tensor]]:
    """Make the controls of some prompts and seeds: clips ``(16, 3 chunks, 14, 24)`` by row.

    What is painted and encoded is kept in the folder.
    """
    own = folder / f"world-{space.digest}"
    names = [f"{name_of(*pair)}-{chunks}.safetensors" for pair in pairs]
    fade = Drifting(4 * CHUNK_FRAMES * chunks)

    def make(numbers: list[int], change: Change | None = None) -> Tensor:
        return real_clips(space, [pairs[number] for number in numbers], chunks, change)

    real = kept([own / name for name in names], make)
    faded = kept([own / f"faded-{name}" for name in names], partial(make, change=fade))
    return {
        REAL: real,
        SHUFFLED: [shuffled(clip, index) for index, clip in enumerate(real)],
        REPEATED: [repeated(clip) for clip in real],
        STILL: [still(clip) for clip in real],
        # The next prompt's; a list of one would be paired with itself.
        OTHER: [*real[1:], *real[:1]] if len(real) > 1 else [],
        FADED: faded,
    }


def reference(
    folder: Path, space: Space, reader: Reader, pairs: Sequence[Pair], chunks: Sequence[int]
) -> dict[int, Array]:
    """Features ``(N, D)`` of the world at some chunks, of the same prompts under other seeds."""
    own = folder / f"world-{space.digest}"
    others = [(prompt, REFERENCE_SEED + seed) for prompt, seed in pairs]
    found: dict[int, Array] = {}
    for chunk in chunks:

        def make(numbers: list[int], chunk: int = chunk) -> Tensor:
            return real_chunks(space, [others[number] for number in numbers], chunk)

        names = [f"{name_of(*pair)}-at-{chunk}.safetensors" for pair in others]
        cuts = kept([own / name for name in names], make)
        found[chunk] = reader.read(torch.stack(cuts)).features
    return found
