"""Looks of pictures and their drift: luminance, saturation and sharpness, beside the world's.

The world itself gets darker as night falls and less saturated in the desert; what counts as drift
is how a stream departs from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.measure.clips import Pair, name_of
from training.measure.flow import mean_flow
from training.measure.moments import STRIDE, first_picture
from training.measure.space import Space
from training.panorama.journey import Journey
from training.panorama.prompts import Prompt
from training.panorama.render import render
from training.settings import CHUNK_FRAMES

LOOKS = ("luminance", "saturation", "sharpness")
# Latent frames that are decoded of a chunk; the pictures of the first of them are thrown away.
DECODED = 2
# Other clips of the same prompt that say what the world looks like at a moment.
WORLDS = 4
WORLD_SEED = 9_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """Averages over the pictures of a moment; the flow in pixels a picture."""

    luminance: float
    saturation: float
    sharpness: float
    flow: float

    @classmethod
    def of(cls, pictures: Tensor) -> Look:
        """Look at a clip ``(T, 3, H, W)`` in 0 to 1."""
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        grey = (pictures * weights).sum(1)
        high, low = pictures.amax(1), pictures.amin(1)
        edges = grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean()
        return cls(
            luminance=float(grey.mean()),
            # Chroma over the whole picture; the share of the value would make dark noise count.
            saturation=float((high - low).mean()),
            sharpness=float(edges),
            flow=mean_flow(pictures),
        )

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def looks_of(space: Space, latents: Tensor, chunks: Sequence[int]) -> list[Look]:
    """Decode the last pictures of some chunks of a stream ``(16, 3 K, h, w)`` and look at them."""
    cuts = torch.stack(
        [latents[:, CHUNK_FRAMES * (k + 1) - DECODED : CHUNK_FRAMES * (k + 1)] for k in chunks]
    )
    pictures = space.decode(cuts)[:, 1 + STRIDE * (DECODED - 2) :]
    return [Look.of(clip) for clip in pictures]


def world_looks(prompt: Prompt, seed: int, chunks: Sequence[int]) -> list[Look]:
    """Return what the world of a prompt looks like in some chunks: the mean of a few clips."""
    firsts = [first_picture(CHUNK_FRAMES * k + CHUNK_FRAMES - 1) for k in chunks]
    # One picture in the middle says how it looks; the world's flow is asked of nobody.
    times = torch.tensor(firsts, dtype=torch.float32)[None] + STRIDE // 2
    journeys = [Journey.draw(prompt, WORLD_SEED + WORLDS * seed + i) for i in range(WORLDS)]
    pictures = render(journeys, times.expand(WORLDS, -1)).float() / 255.0
    looks = []
    for index in range(len(chunks)):
        found = [Look.of(clip[index : index + 1]).as_dict() for clip in pictures]
        looks.append(
            Look(**{name: float(np.mean([one[name] for one in found])) for name in found[0]})
        )
    return looks


@dataclass(frozen=True, slots=True)
class KeptLooks:
    """Looks of some chunks of streams, in files, so that nothing is decoded twice."""

    folder: Path
    space: Space
    chunks: list[int]

    def _path(self, name: str) -> Path:
        return self.folder / self.space.digest / f"{name}.json"

    def has(self, name: str) -> bool:
        path = self._path(name)
        return (
            path.exists()
            and {str(k) for k in self.chunks} <= json.loads(path.read_text("ascii")).keys()
        )

    def of(self, name: str, load: Callable[[], Tensor]) -> list[Look]:
        """Return the looks of a stream; ``load`` gives its latents where they must be decoded."""
        return self._kept(self._path(name), lambda chunks: looks_of(self.space, load(), chunks))

    def world(self, pair: Pair) -> list[Look]:
        """Return the looks of the world of a prompt; its seed only picks other clips."""
        path = self.folder / "world" / f"{name_of(*pair)}.json"
        return self._kept(path, lambda chunks: world_looks(*pair, chunks))

    def _kept(self, path: Path, look: Callable[[list[int]], list[Look]]) -> list[Look]:
        stored: dict[str, dict[str, float]] = {}
        if path.exists():
            stored = json.loads(path.read_text("ascii"))
        missing = [chunk for chunk in self.chunks if str(chunk) not in stored]
        if missing:
            for chunk, found in zip(missing, look(missing), strict=True):
                stored[str(chunk)] = found.as_dict()
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(stored), "ascii")
            part.rename(path)
        return [Look(**stored[str(chunk)]) for chunk in self.chunks]


def drift_of(stream: Sequence[Look], world: Sequence[Look]) -> dict[str, float]:
    """Compare the end of a stream to its start, both beside the world.

    Returns:
        A ratio for each look, 1 where there is no drift; ``drift``, the mean of how far these are
        from 1; and the mean ``flow``.
    """
    told = {}
    for name in LOOKS:
        end, start = (
            max(getattr(stream[at], name), 1e-4) / max(getattr(world[at], name), 1e-4)
            for at in (-1, 0)
        )
        told[name] = end / start
    told["drift"] = float(np.mean([abs(told[name] - 1.0) for name in LOOKS]))
    told["flow"] = float(np.mean([look.flow for look in stream]))
    return told
