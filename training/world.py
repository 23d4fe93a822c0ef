"""Draws the demo world: one coloured shape over scenery that scrolls for ever.

Frame ``t`` of a scene is a pure function of (prompt, seed, t), so a stream has no end: shapes wrap
around the picture and ridges are endless. What a prompt may say belongs to :mod:`training.prompts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.prompts import Prompt

Array = NDArray[np.float32]

# Multiples of 16: the VAE halves three times and the DiT takes 2x2 patches.
WIDTH, HEIGHT = 128, 128
FPS = 12
# Two pixels a frame is one latent cell a latent frame, slow enough to look calm at 12 fps.
SHAPE_SPEED = 2.0
NEAR_SPEED = 2.0
FAR_SPEED = 1.0
RADIUS = 21.0

SHAPE_RGB: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.13, 0.13),
    "yellow": (0.98, 0.84, 0.08),
    "green": (0.10, 0.70, 0.22),
    "cyan": (0.05, 0.80, 0.88),
    "blue": (0.12, 0.30, 0.92),
    "pink": (0.96, 0.25, 0.68),
}
# Sky top, sky at the horizon, far ridge, near ridge; all muted, so the shape stays the star.
TINT_RGB: dict[str, tuple[tuple[float, float, float], ...]] = {
    "blue": ((0.62, 0.76, 0.92), (0.93, 0.95, 0.97), (0.58, 0.69, 0.83), (0.31, 0.43, 0.61)),
    "green": ((0.70, 0.84, 0.88), (0.96, 0.97, 0.89), (0.63, 0.76, 0.64), (0.33, 0.49, 0.37)),
    "golden": ((0.76, 0.82, 0.88), (0.99, 0.94, 0.84), (0.89, 0.77, 0.60), (0.68, 0.53, 0.36)),
    "violet": ((0.66, 0.64, 0.86), (0.98, 0.88, 0.90), (0.69, 0.60, 0.78), (0.42, 0.34, 0.54)),
}
VELOCITY = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
PAN_SIGN = {"left": -1.0, "right": 1.0, "still": 0.0}


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything random about a clip, drawn once from its seed."""

    prompt: Prompt
    start: tuple[float, float]
    offsets: tuple[float, float]
    phases: Array
    tempo: Array
    blocks: Array

    @classmethod
    def draw(cls, prompt: Prompt, seed: int) -> Scene:
        rng = np.random.default_rng(seed)
        start = (rng.uniform(0.0, WIDTH), rng.uniform(0.0, HEIGHT))
        if prompt.direction in ("left", "right"):
            start = (start[0], rng.uniform(22.0, HEIGHT - 22.0))
        else:
            start = (rng.uniform(22.0, WIDTH - 22.0), start[1])
        return cls(
            prompt=prompt,
            start=start,
            offsets=(rng.uniform(0.0, 4096.0), rng.uniform(0.0, 4096.0)),
            phases=rng.uniform(0.0, 2.0 * np.pi, (2, 4)).astype(np.float32),
            # Jittered frequencies have no common period: the scenery never repeats.
            tempo=rng.uniform(0.85, 1.15, (2, 4)).astype(np.float32),
            blocks=rng.uniform(0.0, 1.0, (2, 1024)).astype(np.float32),
        )

    def position(self, time: Array) -> tuple[Array, Array]:
        """Centre of the shape at each time, in pixels, wrapped into the picture."""
        vx, vy = VELOCITY[self.prompt.direction]
        x = (self.start[0] + vx * SHAPE_SPEED * time) % WIDTH
        y = (self.start[1] + vy * SHAPE_SPEED * time) % HEIGHT
        return x.astype(np.float32), y.astype(np.float32)

    def ridge(self, layer: int, u: Array) -> Array:
        """Height of a ridge above its base, in pixels, at scenery coordinate ``u``."""
        waves = np.array([0.021, 0.037, 0.059, 0.093], np.float32) * self.tempo[layer]
        phase = self.phases[layer]
        if self.prompt.scenery == "hills":
            size = np.array([9.5, 6.5, 3.0, 0.9], np.float32)
            return sum_of_waves(np.sin, u, waves, phase, size)
        if self.prompt.scenery == "mountains":
            size = np.array([13.0, 8.5, 5.0, 2.0], np.float32)
            return sum_of_waves(triangle_wave, u, waves * 1.3, phase, size) + 4.5
        width = 19.0 if layer == 0 else 27.0
        cell = np.floor(u / width).astype(np.int64) % self.blocks.shape[1]
        return (self.blocks[layer][cell] - 0.45) * 36.0


def sum_of_waves(
    wave: Callable[[Array], Array], u: Array, speed: Array, phase: Array, size: Array
) -> Array:
    total = np.zeros_like(u)
    for s, p, a in zip(speed, phase, size, strict=True):
        total += a * wave(u * s + p)
    return total


def triangle_wave(angle: Array) -> Array:
    return (2.0 / np.pi) * np.arcsin(np.sin(angle))


def shape_distance(shape: str, dx: Array, dy: Array) -> Array:
    """Signed distance to a shape's outline, in pixels, negative inside."""
    if shape == "circle":
        return np.hypot(dx, dy) - RADIUS
    if shape == "square":
        half, corner = RADIUS * 0.86, 2.5
        qx, qy = np.abs(dx) - half + corner, np.abs(dy) - half + corner
        outside = np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0))
        return outside + np.minimum(np.maximum(qx, qy), 0.0) - corner
    if shape == "triangle":
        # Three half planes; the rounding at the corners hides that this is only a bound.
        side = np.float32(np.sqrt(0.75))
        slanted = np.abs(dx) * side + (-dy - 2.0) * 0.5
        return np.maximum(slanted, dy - 2.0) - RADIUS * 0.58
    angle = np.arctan2(dx, -dy)
    sector = np.float32(2.0 * np.pi / 5.0)
    folded = np.abs((angle + sector / 2.0) % sector - sector / 2.0)
    radius = np.hypot(dx, dy)
    px, py = radius * np.cos(folded), radius * np.sin(folded)
    # The edge from the tip (1.25 R, 0) to the inner corner at 36 degrees and 0.58 R.
    tip, inner = RADIUS * 1.25, RADIUS * 0.60
    ix, iy = inner * np.cos(np.pi / 5.0), inner * np.sin(np.pi / 5.0)
    ex, ey = ix - tip, iy
    return ((px - tip) * -ey + py * ex) / -np.hypot(ex, ey)


def blend(below: Array, above: Array, cover: Array) -> Array:
    return below + (above - below) * cover[..., None]


def render(prompt: Prompt, seed: int, frames: int, start: int = 0) -> Array:
    """Draw ``frames`` frames from time ``start``: ``(T, H, W, 3)`` in [0, 1]."""
    scene = Scene.draw(prompt, seed)
    time = np.arange(start, start + frames, dtype=np.float32)
    y = np.arange(HEIGHT, dtype=np.float32)[None, :, None]
    x = np.arange(WIDTH, dtype=np.float32)
    top, horizon, far, near = (np.array(c, np.float32) for c in TINT_RGB[prompt.tint])
    fade = np.clip(y[0] / 86.0, 0.0, 1.0)[..., None] ** 1.3
    image = np.broadcast_to(top + (horizon - top) * fade, (frames, HEIGHT, WIDTH, 3))
    for layer, (colour, base, speed) in enumerate(
        ((far, 80.0, FAR_SPEED), (near, 102.0, NEAR_SPEED))
    ):
        travel = PAN_SIGN[prompt.pan] * speed * time + scene.offsets[layer]
        u = (x[None, :] + travel[:, None]).astype(np.float32)
        cover = np.zeros((frames, HEIGHT, WIDTH), np.float32)
        for shift in (-0.33, 0.0, 0.33):
            crest = base - scene.ridge(layer, u + np.float32(shift))
            cover += np.clip(y - crest[:, None, :] + 0.5, 0.0, 1.0)
        depth = y - (base - scene.ridge(layer, u))[:, None, :]
        glow = ridge_light(scene, layer, u, depth)
        image = blend(image, colour * glow[..., None], cover / 3.0)
    return draw_shape(image, scene, time, x, y)


def ridge_light(scene: Scene, layer: int, u: Array, depth: Array) -> Array:
    """Brightness inside a ridge ``(T, H, W)``: lit at the crest, softly textured below."""
    light = 0.94 + 0.16 * np.exp(-np.maximum(depth, 0.0) / 7.0)
    if scene.prompt.scenery == "mountains":
        light = light + 0.22 * np.clip((6.5 - depth) / 3.0, 0.0, 1.0)
    if scene.prompt.scenery == "city":
        cell = np.floor(u / (19.0 if layer == 0 else 27.0)).astype(np.int64)
        tone = scene.blocks[layer][(cell * 7 + 3) % scene.blocks.shape[1]]
        return light + 0.14 * (tone - 0.5)[:, None, :]
    phase = scene.phases[layer]
    bands = np.sin(u * 0.11 + phase[0])[:, None, :] * np.sin(depth * 0.16 + phase[1])
    return light + (0.05 if layer else 0.03) * bands


def draw_shape(image: Array, scene: Scene, time: Array, x: Array, y: Array) -> Array:
    cx, cy = scene.position(time)
    half_w, half_h = WIDTH / 2.0, HEIGHT / 2.0
    dx = ((x[None, None, :] - cx[:, None, None] + half_w) % WIDTH) - half_w
    dy = ((y - cy[:, None, None] + half_h) % HEIGHT) - half_h
    dx, dy = np.broadcast_arrays(dx, dy)
    distance = shape_distance(scene.prompt.shape, dx, dy)
    # Light from the upper left and a darker rim make a flat shape look like a solid one.
    light = 1.0 - 0.13 * (dx + dy) / RADIUS - 0.28 * np.exp(np.minimum(distance, 0.0) / 3.0)
    rgb = np.array(SHAPE_RGB[scene.prompt.colour], np.float32)
    painted = np.clip(rgb * (light + 0.06)[..., None], 0.0, 1.0)
    cover = np.clip(0.5 - distance, 0.0, 1.0)
    return np.clip(blend(image, painted, cover), 0.0, 1.0).astype(np.float32)
