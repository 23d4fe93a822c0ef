"""Paints pictures of journeys: a pure function of prompt, seed and time, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.panorama import boats, growth, houses, scenery, sky, subject, water
from training.panorama.canvas import Canvas
from training.panorama.journey import HEIGHT, WIDTH, Journey, truth
from training.panorama.prompts import LIGHTS
from training.panorama.terrain import FAR, FRONT, MIDDLE, NEAR

# Pictures at a time: what fits a cache of a CPU, and what keeps a card busy.
BATCH_CPU, BATCH_CARD = 12, 384


@torch.no_grad()
def render(journeys: Sequence[Journey], times: Tensor) -> Tensor:
    """Paint clips at times.

    Args:
        journeys: N clips.
        times: ``(N, T)`` pictures since departure, on the device to paint on.

    Returns:
        ``(N, T, 3, H, W)`` of bytes. The same (prompt, seed, time) gives the same picture in any
        company.
    """
    told = truth(journeys, times)
    count, frames = times.shape
    owner = torch.arange(count, device=times.device).repeat_interleave(frames)
    looks = subject.Looks.of(journeys, told, times.device)
    departure = _column([journey.departure for journey in journeys], times)
    salt = torch.tensor([journey.salt for journey in journeys], device=times.device)
    dawn = _column([journey.prompt.light == LIGHTS[2] for journey in journeys], times)[:, 0]
    camera = (departure + told.place).flatten()
    light, time = told.light.flatten(), times.to(torch.float32).flatten()
    x, y = told.x.flatten(), told.y.flatten()
    out = torch.empty(count * frames, 3, HEIGHT, WIDTH, dtype=torch.uint8, device=times.device)
    batch = BATCH_CPU if times.device.type == "cpu" else BATCH_CARD
    for start in range(0, count * frames, batch):
        part = slice(start, start + batch)
        whose = owner[part]
        canvas = Canvas.stretch(camera[part], light[part], dawn[whose], time[part], salt[whose])
        paint_panorama(canvas)
        subject.paint_subject(canvas, looks.pick(whose), x[part], y[part])
        out[part] = finish(canvas)
    return out.view(count, frames, 3, HEIGHT, WIDTH)


def paint_panorama(canvas: Canvas) -> None:
    """Paint everything but the subject, from back to front."""
    sky.paint_sky(canvas)
    scenery.paint_ground(canvas, FAR)
    water.paint_water(canvas)
    boats.paint_boats(canvas)
    houses.paint_houses(canvas, MIDDLE)
    growth.paint_growth(canvas, MIDDLE)
    scenery.paint_ground(canvas, MIDDLE)
    houses.paint_houses(canvas, NEAR)
    growth.paint_growth(canvas, NEAR)
    scenery.paint_ground(canvas, NEAR)
    scenery.paint_ground(canvas, FRONT)


def finish(canvas: Canvas) -> Tensor:
    """Darken the corners a little, as a lens does, and round to bytes."""
    x = (canvas.columns()[:, None] - WIDTH / 2) * (1.0 / WIDTH)
    y = (canvas.rows(0) - HEIGHT / 2) * (1.0 / HEIGHT)
    lens = 1.0 - 0.34 * (x * x + y * y).square() * 2.0
    return (canvas.image * (lens[:, None] * 255.0) + 0.5).clamp(0.0, 255.0).to(torch.uint8)


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
