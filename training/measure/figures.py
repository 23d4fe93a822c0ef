"""Figures of one stream, from what was read of its chunks and what its prompt asks.

Every figure is made so that the real world scores near its ideal; see FIGURES for the ideals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.measure.moments import RING, Asked
from training.measure.reader import Reading
from training.panorama.journey import PERIOD, SPEEDS
from training.panorama.prompts import COLOURS, REGION_LENGTH, REGIONS, SUBJECTS, Prompt
from training.settings import CHUNK_FRAMES

Array = NDArray[np.float64]
# Chunks over which readings are averaged: one reading alone may be wrong.
SMOOTH = 3
# Progress is told where so many pixels were asked for: before that a small error is a large share.
FAR_ENOUGH = REGION_LENGTH / 2
# A stream goes where it is told if it covers this share of its way; light within this is right.
GOES, LIGHT_NEAR = 0.25, 0.2
# Chunks between what is compared for dynamics, and chunks in which an action is judged: a period.
APART, ACTS = 5, round(PERIOD / (4 * CHUNK_FRAMES))
# Pixels of standard deviation from which a subject moves along an axis; the world's is 10 or more.
STIRS = 5.0
LEAST_RATIO, MOST_RATIO = -1.0, 2.0


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure is called, what it would be for the real world, and how it is written."""

    title: str
    ideal: float
    percent: bool = False


FIGURES: dict[str, Figure] = {
    "progress": Figure("progress on the way", 1.0),
    "progress_end": Figure("progress at the end", 1.0),
    "off_way": Figure("off the way %", 0.0, True),
    "destination": Figure("destination %", 1.0, True),
    "direction": Figure("direction %", 1.0, True),
    "pace": Figure("pace %", 1.0, True),
    "light": Figure("light %", 1.0, True),
    "colour": Figure("colour %", 1.0, True),
    "subject": Figure("subject %", 1.0, True),
    "action": Figure("action %", 1.0, True),
    "identity": Figure("identity kept %", 1.0, True),
    "present": Figure("subject there %", 1.0, True),
    "change": Figure("change over 5 chunks", float("nan")),
    "seams": Figure("seams", 1.0),
}


def smoothed(values: Array, width: int = SMOOTH) -> Array:
    """Average ``(K, ...)`` over a few neighbours; fewer at both ends."""
    half = width // 2
    rows = [
        values[max(0, k - half) : k + half + 1].mean(0, keepdims=True) for k in range(len(values))
    ]
    return np.concatenate(rows)


def place_of(points: Array) -> Array:
    """Places on the ring in pixels, for points ``(K, 2)`` near the unit circle."""
    angle: Array = np.arctan2(points[:, 1], points[:, 0]) % (2.0 * np.pi)
    return angle * (RING / (2.0 * np.pi))


def travelled(points: Array) -> Array:
    """The way ``(K,)`` since the first chunk, signed, followed around the ring."""
    even = smoothed(points)
    # An average over one side only would lag behind a camera that moves.
    even[0], even[-1] = points[0], points[-1]
    places = place_of(even)
    steps = np.diff(places, prepend=places[:1])
    return np.cumsum((steps + RING / 2) % RING - RING / 2)


def ratios(way: Array, asked: Asked) -> Array:
    """The way covered over the way asked for, where that is far enough to tell."""
    wanted = asked.travel - asked.travel[0]
    far = np.abs(wanted) >= min(FAR_ENOUGH, float(np.abs(wanted).max()))
    found: Array = np.clip(way[far] / wanted[far], LEAST_RATIO, MOST_RATIO)
    return found


def pace_of(speed: float) -> str | None:
    """The word for a speed in pixels a picture; none for one that is far from all of them."""
    nearest = min(SPEEDS, key=lambda word: abs(np.log(max(speed, 1e-6) / SPEEDS[word])))
    return nearest if 0.6 < speed / SPEEDS[nearest] < 1.67 else None


def action_of(path: Array) -> str | None:
    """The word for a path ``(T, 2)`` of about one period; none for one that hardly moves."""
    off = path - path.mean(0)
    across, down = off.std(0)
    if across < STIRS and down < STIRS:
        return None
    # Circles of the world are 2.5 times as wide as high, so each axis has its own measure.
    if down < STIRS:
        return "swaying"
    if across < STIRS:
        return "bobbing"
    cross = off[:-1, 0] * off[1:, 1] - off[:-1, 1] * off[1:, 0]
    # With y pointing down, a positive turn is clockwise for the one who looks.
    return "circling right" if cross.sum() > 0.0 else "circling left"


def adherence(prompt: Prompt, asked: Asked, read: Reading) -> dict[str, float]:
    """How far a stream shows what its prompt says."""
    way = travelled(read.place)
    total = asked.travel[-1] - asked.travel[0]
    full = np.abs(asked.speed) > 0.95 * SPEEDS[prompt.pace]
    end = place_of(read.place[-SMOOTH:].mean(0, keepdims=True))[0]
    arrived = REGIONS[int(end // REGION_LENGTH) % len(REGIONS)]
    colour, subject = smoothed(read.colour).argmax(1), smoothed(read.subject).argmax(1)
    there = smoothed(read.present) > 0.5
    looks = np.stack([colour, subject], 1)
    runs = [read.path[k : k + ACTS].reshape(-1, 2) for k in range(len(colour) - ACTS + 1)]
    acts = [action_of(run) == prompt.action for run in runs]
    return {
        "progress": float(ratios(way, asked).mean()),
        "progress_end": float(np.clip(way[-1] / total, LEAST_RATIO, MOST_RATIO)),
        "off_way": float(np.abs(way - (asked.travel - asked.travel[0])).mean() / np.abs(total)),
        "destination": float(arrived == prompt.destination),
        "direction": float(ratios(way, asked).mean() > GOES),
        "pace": float(pace_of(float(np.abs(read.speed[full]).mean())) == prompt.pace),
        "light": float((np.abs(smoothed(read.light) - asked.light) < LIGHT_NEAR).mean()),
        "colour": float(((colour == COLOURS.index(prompt.colour)) & there).mean()),
        "subject": float(((subject == SUBJECTS.index(prompt.subject)) & there).mean()),
        "action": float(np.mean(acts)) if acts else float("nan"),
        "identity": float(((looks == looks[0]).all(1) & there).mean()),
        "present": float(there.mean()),
    }


def change(features: Array, apart: int = APART) -> float:
    """Mean distance of features ``(K, D)`` to those some chunks later, over what chance gives.

    Features have unit variance, so two moments that have nothing to do with each other are sqrt(2
    D) apart.
    """
    if len(features) <= apart:
        return float("nan")
    moved = np.linalg.norm(features[apart:] - features[:-apart], axis=1)
    return float(moved.mean() / np.sqrt(2.0 * features.shape[1]))


def seam_ratio(latents: Tensor) -> float:
    """Jumps from chunk to chunk over jumps inside chunks, for latents ``(16, 3 K, h, w)``.

    The first frame of all is left out: it stands for one picture, not for four.
    """
    jumps = latents[:, 1:].diff(dim=1).float().square().mean((0, 2, 3)).sqrt()
    across = torch.arange(len(jumps)) % CHUNK_FRAMES == 1
    if not bool(across.any()):
        return float("nan")
    return float(jumps[across].mean() / jumps[~across].mean().clamp(min=1e-6))


def figures_of(prompt: Prompt, asked: Asked, read: Reading, latents: Tensor) -> dict[str, float]:
    """All figures of a stream that need no pictures.

    Args:
        prompt: What was asked for.
        asked: What that means at each of K chunks.
        read: What was read of them.
        latents: ``(16, 3 K, 14, 24)``, normalised.
    """
    told = adherence(prompt, asked, read)
    told["change"] = change(read.features)
    told["seams"] = seam_ratio(latents)
    return told
