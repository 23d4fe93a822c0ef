"""Reads from the latents of a chunk what it shows: place, pan, light and the subject."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from training.anchors.latents import write_whole
from training.measure.moments import RING
from training.panorama.prompts import COLOURS, SUBJECTS
from training.settings import CHUNK_FRAMES
from training.vae import Z_DIM

SCENE, SUBJECT = 16, 8
# What the outputs are divided by, so that all of them are near 1.
SPEED_UNIT, CELL = 4.0, 8.0
# Columns in which the next frame is compared: the quickest pan is two columns a latent frame.
REACH = 3
BATCH = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of N chunks.

    ``place (N, 2)`` is a point near the unit circle, at the angle of the place on the ring;
    ``speed (N,)`` in pixels a picture, ``light (N,)`` from 0 to 1; ``colour (N, 6)`` and ``subject
    (N, 4)`` are log-probabilities, ``present (N,)`` the probability of a subject; ``path (N, 3,
    2)`` is its x and y in pixels at each latent frame; ``features (N, 24)`` have unit variance
    over the real world.
    """

    place: NDArray[np.float64]
    speed: NDArray[np.float64]
    light: NDArray[np.float64]
    colour: NDArray[np.float64]
    subject: NDArray[np.float64]
    present: NDArray[np.float64]
    path: NDArray[np.float64]
    features: NDArray[np.float64]

    @classmethod
    def join(cls, parts: list[Reading]) -> Reading:
        return cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )

    def split(self, length: int) -> Iterator[Reading]:
        """Take the readings of streams of ``length`` chunks apart."""
        for start in range(0, len(self.speed), length):
            here = slice(start, start + length)
            yield Reading(*(getattr(self, f.name)[here] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the network gives for N chunks, in its own units, as :class:`Reading` has them."""

    place: Tensor
    speed: Tensor
    light: Tensor
    colour: Tensor
    subject: Tensor
    present: Tensor
    path: Tensor
    features: Tensor


def alike(latents: Tensor) -> Tensor:
    """How much cells are like those a few columns aside in the next frame: it shows the pan.

    Args:
        latents: ``(N, 16, T, h, w)``.

    Returns:
        ``(N, (T - 1) (2 REACH + 1), h, w)``.
    """
    width = latents.shape[-1]
    wide = F.pad(latents[:, :, 1:], (REACH, REACH))
    maps = [
        (latents[:, :, :-1] * wide[..., shift : shift + width]).mean(1)
        for shift in range(2 * REACH + 1)
    ]
    return torch.cat(maps, 1)


class Block(nn.Module):
    """Two convolutions around which the input is carried."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.layers(x)
        return x + inner


class Reader(nn.Module):
    """A small convolutional network; the subject is read where it is found."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        alike = (CHUNK_FRAMES - 1) * (2 * REACH + 1)
        self.stem = nn.Conv2d(CHUNK_FRAMES * Z_DIM + alike + 2, width, 3, padding=1)
        self.near = nn.Sequential(Block(width), Block(width), nn.GroupNorm(8, width), nn.SiLU())
        self.heat = nn.Conv2d(width, CHUNK_FRAMES, 1)
        self.subject_features = nn.Linear(width, SUBJECT)
        self.colour = nn.Linear(width, len(COLOURS))
        self.subject = nn.Linear(width, len(SUBJECTS))
        self.present = nn.Linear(width + 1, 1)
        wide = 2 * width
        self.far = nn.Sequential(
            nn.Conv2d(width, wide, 3, stride=2, padding=1),
            Block(wide),
            Block(wide),
            nn.GroupNorm(8, wide),
            nn.SiLU(),
        )
        # Rows mean something in a landscape, columns do not.
        self.scene_features = nn.Linear(7 * wide, SCENE)
        self.scene = nn.Linear(SCENE, 4)
        self.register_buffer("feature_mean", torch.zeros(SCENE + SUBJECT))
        self.register_buffer("feature_std", torch.ones(SCENE + SUBJECT))

    def forward(self, latents: Tensor) -> Outputs:
        """Read normalised latents of chunks ``(N, 16, 3, 14, 24)``."""
        count, _, _, height, width = latents.shape
        flat = latents.transpose(1, 2).flatten(1, 2)
        y = torch.linspace(-1.0, 1.0, height).view(1, 1, -1, 1).expand(count, 1, height, width)
        x = torch.linspace(-1.0, 1.0, width).view(1, 1, 1, -1).expand(count, 1, height, width)
        near = self.near(self.stem(torch.cat([flat, alike(latents), x, y], 1)))
        heat = self.heat(near).flatten(2)
        share = heat.softmax(2)
        rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        path = share @ torch.cartesian_prod(rows, columns).flip(1)
        spot = (share.mean(1, keepdim=True) * near.flatten(2)).sum(2)
        peak = share.amax(2).mean(1, keepdim=True)
        scene = self.scene_features(self.far(near).mean(3).flatten(1))
        told = self.scene(scene)
        own = torch.cat([scene, self.subject_features(spot)], 1)
        return Outputs(
            place=told[:, :2],
            speed=told[:, 2],
            light=told[:, 3],
            colour=self.colour(spot).log_softmax(1),
            subject=self.subject(spot).log_softmax(1),
            present=self.present(torch.cat([spot, peak], 1))[:, 0],
            path=path,
            features=(own - self.feature_mean) / self.feature_std,
        )

    @torch.no_grad()
    def read(self, latents: Tensor) -> Reading:
        """Read streams ``(N, 16, 3 K, 14, 24)`` of normalised latents, all chunks in a row."""
        chunks = latents.float().unflatten(2, (-1, CHUNK_FRAMES)).transpose(1, 2).flatten(0, 1)
        return Reading.join([_reading(self(part)) for part in chunks.split(BATCH)])

    def save(self, path: Path, about: dict[str, object]) -> None:
        write_whole(self.state_dict(), path, {"about": json.dumps(about)})

    @classmethod
    def load(cls, path: Path, space: str) -> tuple[Reader, dict[str, object]]:
        """Load a reader of a latent space; also what its file says about its training.

        Raises:
            ValueError: It was trained on another space, whose latents mean other things.
        """
        with safe_open(path, "pt") as file:
            about: dict[str, object] = json.loads(file.metadata()["about"])
        if about["space"] != space:
            raise ValueError(
                f"{path.name} reads the latent space {about['space']}, expected {space}: train it "
                "again with `python -m training.measure reader`"
            )
        reader = cls()
        reader.load_state_dict(load_file(path))
        return reader.eval().requires_grad_(False), about


def _reading(out: Outputs) -> Reading:
    def plain(values: Tensor) -> NDArray[np.float64]:
        array: NDArray[np.float64] = values.double().numpy()
        return array

    return Reading(
        place=plain(out.place),
        speed=plain(out.speed * SPEED_UNIT),
        light=plain(out.light),
        colour=plain(out.colour),
        subject=plain(out.subject),
        present=plain(out.present.sigmoid()),
        path=plain(out.path * CELL),
        features=plain(out.features),
    )


def angle_of(place: Tensor) -> Tensor:
    """Points of the unit circle ``(..., 2)`` for places on the ring in pixels."""
    angle = place * (math.tau / RING)
    return torch.stack([angle.cos(), angle.sin()], -1)


def loss_of(out: Outputs, wanted: dict[str, Tensor]) -> Tensor:
    """The sum of what is wrong; where there is no subject only its absence counts."""
    there = wanted["present"]
    most = there.sum().clamp(min=1.0)
    parts = {
        "place": (out.place - wanted["place"]).square().sum(1).mean() * 4.0,
        "speed": (out.speed - wanted["speed"] / SPEED_UNIT).square().mean() * 4.0,
        "light": (out.light - wanted["light"]).square().mean() * 4.0,
        "present": F.binary_cross_entropy_with_logits(out.present, there),
        "path": (
            F.smooth_l1_loss(out.path, wanted["path"] / CELL, reduction="none").mean((1, 2)) * there
        ).sum()
        / most,
    }
    for name in ("colour", "subject"):
        chosen = getattr(out, name).gather(1, wanted[name][:, None])[:, 0]
        parts[name] = -(chosen * there).sum() / most
    return torch.stack(list(parts.values())).sum()
