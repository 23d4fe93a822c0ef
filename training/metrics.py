"""Measures what a demo clip shows and how it drifts; knows pixels and prompts, no models."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.prompts import COLOURS, Prompt
from training.world import HEIGHT, NEAR_SPEED, RADIUS, SHAPE_RGB, SHAPE_SPEED, WIDTH

Array = NDArray[np.float32]
HUE_WIDTH = 22.0 / 360.0
# A star is the smallest shape; half of its area still counts as "the shape is there".
# Below this row the near scenery fills the picture.
NEAR_TOP = 95
PRESENT_AREA = 0.5 * 0.7 * RADIUS**2 * np.pi


def hue_saturation_value(frames: Array) -> tuple[Array, Array, Array]:
    high, low = frames.max(-1), frames.min(-1)
    span = np.maximum(high - low, 1e-6)
    r, g, b = np.moveaxis(frames, -1, 0)
    hue = np.where(
        high == r,
        ((g - b) / span) % 6.0,
        np.where(high == g, (b - r) / span + 2.0, (r - g) / span + 4.0),
    )
    return hue / 6.0, span / np.maximum(high, 1e-6), high


def colour_mask(frames: Array, colour: str) -> NDArray[np.bool_]:
    """Pixels of a shape's colour ``(T, H, W)``; scenery is too muted to count."""
    hue, saturation, value = hue_saturation_value(frames)
    wanted = colorsys.rgb_to_hsv(*SHAPE_RGB[colour])[0]
    distance = np.abs((hue - wanted + 0.5) % 1.0 - 0.5)
    return (distance < HUE_WIDTH) & (saturation > 0.66) & (value > 0.45)


def colour_right(frames: Array, prompt: Prompt) -> bool:
    """Whether the named colour, and no other shape colour, fills a shape's area."""
    areas = {c: float(np.median(colour_mask(frames, c).sum((1, 2)))) for c in COLOURS}
    return (
        max(areas, key=lambda c: areas[c]) == prompt.colour and areas[prompt.colour] > PRESENT_AREA
    )


def travel(frames: Array, colour: str) -> tuple[float, float]:
    """Median pixels a frame the coloured shape moves in x and y, across the wrap-around."""
    mask = colour_mask(frames, colour).astype(np.float32)
    speeds = []
    for profile, size in ((mask.sum(1), WIDTH), (mask.sum(2), HEIGHT)):
        angle = np.angle(profile @ np.exp(2j * np.pi * np.arange(size) / size))
        step = np.angle(np.exp(1j * np.diff(angle)))
        speeds.append(float(np.median(step)) * size / (2.0 * np.pi) if len(step) else 0.0)
    return speeds[0], speeds[1]


def direction_right(frames: Array, prompt: Prompt) -> bool:
    """Whether the shape moves where the prompt says, at a quarter of the world's pace or more."""
    vx, vy = travel(frames, prompt.colour)
    along, across = (vx, vy) if prompt.direction in ("left", "right") else (vy, vx)
    sign = -1.0 if prompt.direction in ("left", "up") else 1.0
    return sign * along > 0.25 * SHAPE_SPEED and abs(along) > abs(across)


def pan_right(frames: Array, prompt: Prompt, gap: int = 4) -> bool:
    """Whether the near scenery scrolls as the camera pan says, by the best matching shift."""
    rows = frames[:, NEAR_TOP:]
    shape = colour_mask(frames, prompt.colour)[:, NEAR_TOP:]
    reach = int(1.5 * NEAR_SPEED * gap)
    shifts = range(-reach, reach + 1)
    costs = np.zeros(len(shifts))
    for n, shift in enumerate(shifts):
        here = slice(reach, WIDTH - reach)
        there = slice(reach + shift, WIDTH - reach + shift)
        free = ~(shape[gap:, :, here] | shape[:-gap, :, there])
        change = np.abs(rows[gap:, :, here] - rows[:-gap, :, there]).mean(-1)
        costs[n] = change[free].mean() if free.any() else np.inf
    best = float(shifts[int(np.argmin(costs))])
    wanted = {"left": -1.0, "right": 1.0, "still": 0.0}[prompt.pan]
    moving = 0.25 * NEAR_SPEED * gap
    return abs(best) < moving if wanted == 0.0 else best * wanted >= moving


@dataclass(frozen=True, slots=True)
class Look:
    """Averages of a run of frames."""

    luminance: float
    saturation: float
    sharpness: float
    motion: float

    @classmethod
    def of(cls, frames: Array) -> Look:
        grey = frames @ np.array([0.299, 0.587, 0.114], np.float32)
        _, saturation, _ = hue_saturation_value(frames)
        edges = np.abs(np.diff(grey, axis=1)).mean() + np.abs(np.diff(grey, axis=2)).mean()
        motion = np.abs(np.diff(frames, axis=0)).mean() if len(frames) > 1 else 0.0
        return cls(float(grey.mean()), float(saturation.mean()), float(edges), float(motion))


@dataclass(frozen=True, slots=True)
class Drift:
    """Ratios of the end of a stream to its start; 1 means no drift."""

    luminance: float
    saturation: float
    sharpness: float
    motion: float

    @classmethod
    def of(cls, frames: Array, chunk_frames: int = 12, chunks: int = 4) -> Drift:
        """First against last ``chunks`` chunks; motion compares thirds."""
        span, third = chunk_frames * chunks, len(frames) // 3
        first, last = Look.of(frames[:span]), Look.of(frames[-span:])
        start, end = Look.of(frames[:third]).motion, Look.of(frames[-third:]).motion
        return cls(
            last.luminance / max(first.luminance, 1e-6),
            last.saturation / max(first.saturation, 1e-6),
            last.sharpness / max(first.sharpness, 1e-6),
            end / max(start, 1e-6),
        )

    @property
    def within_limits(self) -> bool:
        looks = (self.luminance, self.saturation, self.sharpness)
        return all(0.8 <= ratio <= 1.2 for ratio in looks) and self.motion >= 0.5


def bootstrap(values: list[float], rounds: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean with its 95 % bootstrap confidence interval."""
    data = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(data), (rounds, len(data)))
    low, high = np.percentile(data[picks].mean(1), (2.5, 97.5))
    return float(data.mean()), float(low), float(high)
