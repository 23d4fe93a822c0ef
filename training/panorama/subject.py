"""Paints the subject: what flies in front of everything and keeps its look for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama import bodies
from training.panorama.bodies import Body
from training.panorama.canvas import Canvas, plane
from training.panorama.journey import ACCENTS, HEIGHT, WIDTH, Journey, Truth
from training.panorama.noise import smooth
from training.panorama.prompts import SUBJECTS

COLOUR_RGB = {
    "red": (0.88, 0.13, 0.14),
    "orange": (0.98, 0.50, 0.07),
    "yellow": (0.99, 0.85, 0.14),
    "green": (0.10, 0.72, 0.28),
    "blue": (0.10, 0.22, 0.90),
    "violet": (0.58, 0.18, 0.82),
}
# Pixels before and behind the middle that a subject may touch.
WINDOW_X, WINDOW_Y = (28, 28), (20, 36)
ACCENT_RGB = {"cream": (0.99, 0.95, 0.84), "dark": (0.17, 0.15, 0.20)}


@dataclass(frozen=True, slots=True)
class Looks:
    """What subjects are, one number or colour a clip or, picked, a picture."""

    kind: Tensor
    colour: Tensor
    accent: Tensor
    pattern: Tensor
    heading: Tensor

    @classmethod
    def of(cls, journeys: Sequence[Journey], told: Truth, device: torch.device) -> Looks:
        prompts = [journey.prompt for journey in journeys]
        accents = torch.tensor([ACCENT_RGB[name] for name in ACCENTS], device=device)
        return cls(
            kind=torch.tensor([SUBJECTS.index(p.subject) for p in prompts], device=device),
            colour=torch.tensor([COLOUR_RGB[p.colour] for p in prompts], device=device),
            accent=accents[told.accent],
            pattern=told.pattern,
            heading=torch.tensor([float(p.sign) for p in prompts], device=device),
        )

    def pick(self, owner: Tensor) -> Looks:
        return Looks(
            self.kind[owner],
            self.colour[owner],
            self.accent[owner],
            self.pattern[owner],
            self.heading[owner],
        )


def paint_subject(canvas: Canvas, looks: Looks, x: Tensor, y: Tensor) -> None:
    """Paint subjects with the middle of their coloured bodies at ``x, y (P,)``."""
    _glow(canvas, looks, x, y)
    channels = torch.arange(3, device=x.device)[None, :, None, None]
    # Kinds are painted apart: each is a different drawing.
    for index, name in enumerate(SUBJECTS):
        which = (looks.kind == index).nonzero()[:, 0]
        if len(which) == 0:
            continue
        # Only a window around the subject is touched.
        columns = _window(x[which], WINDOW_X, WIDTH)
        rows = _window(y[which], WINDOW_Y, HEIGHT)
        dx = (columns.to(torch.float32) + 0.5 - x[which, None])[:, None, :]
        dy = (rows.to(torch.float32) + 0.5 - y[which, None])[:, :, None]
        dx, dy = (part.contiguous() for part in torch.broadcast_tensors(dx, dy))
        spot = (
            which[:, None, None, None],
            channels,
            rows[:, None, :, None],
            columns[:, None, None, :],
        )
        moment = plane(canvas.time[which])
        body = bodies.BODIES[name](dx, dy, moment, plane(looks.heading[which]))
        image = canvas.image[spot]
        for part in body.behind:
            _part(canvas, which, image, part)
        _skin(canvas, looks, which, image, body)
        for part in body.front:
            _part(canvas, which, image, part)
        canvas.image[spot] = image


def _window(middle: Tensor, reach: tuple[int, int], size: int) -> Tensor:
    """Pixels around places ``(P,)`` as ``(P, window)``, all of them within the picture."""
    start = (middle.floor().to(torch.int64) - reach[0]).clamp(0, size - sum(reach))
    return start[:, None] + torch.arange(sum(reach), device=middle.device)


def _glow(canvas: Canvas, looks: Looks, x: Tensor, y: Tensor) -> None:
    """A soft light around the subject in the dark."""
    dark = smooth(canvas.light, 0.45, 0.9)
    if not bool((dark > 0.0).any()):
        return
    across = (canvas.columns() - x[:, None]) * (1.0 / 27.0)
    down = (canvas.rows(0)[..., 0] - y[:, None]) * (1.0 / 27.0)
    halo = (-(down * down)).exp()[:, :, None] * (-(across * across)).exp()[:, None, :]
    canvas.add(looks.colour * 0.55 + 0.3, halo * plane(0.3 * dark), 0)


def _shine(canvas: Canvas, which: Tensor, own: float) -> tuple[Tensor, Tensor]:
    """Light on the subject ``(P, 3, 1, 1)``: from everywhere, and from its side."""
    ambient = canvas.ambient[which] * (1.0 - own) + own
    return plane(ambient), plane(canvas.beam[which])


def _skin(canvas: Canvas, looks: Looks, which: Tensor, image: Tensor, body: Body) -> None:
    mark = bodies.marking(body.a, body.b, looks.pattern[which])[:, None]
    colour, accent = plane(looks.colour[which]), plane(looks.accent[which])
    paint = colour + (accent - colour) * mark
    side = plane(canvas.side[which])
    facing = (0.5 + 0.5 * (body.nx * side - body.ny * 0.6)).clamp(0.0, 1.0)[:, None]
    dark = plane(smooth(canvas.light[which], 0.3, 0.9))[:, None]
    inner = body.inner[:, None]
    own = 0.36 + 0.44 * dark
    ambient = plane(canvas.ambient[which])
    ambient = ambient + (1.0 - ambient) * own
    shade = 0.72 + 0.32 * facing
    lit = paint * ambient * shade + plane(canvas.beam[which]) * (facing.square() * 0.5) * (
        0.35 + 0.65 * paint
    )
    # A flame inside lifts the colour itself towards its own light.
    flame = inner * (0.35 + 0.65 * dark)
    warm = paint * 1.2 + paint.new_tensor((0.16, 0.13, 0.08)).reshape(1, 3, 1, 1)
    lit = lit + (warm - lit) * (flame * 0.8)
    lit = lit * (1.0 - body.seam[:, None])
    image += (lit.clamp(0.0, 1.0) - image) * body.cover[:, None]


def _part(
    canvas: Canvas, which: Tensor, image: Tensor, part: tuple[tuple[float, float, float], Tensor]
) -> None:
    rgb, cover = part
    ambient, beam = _shine(canvas, which, 0.2)
    colour = image.new_tensor(rgb).reshape(1, 3, 1, 1) * (ambient + 0.5 * beam)
    image += (colour.clamp(0.0, 1.0) - image) * cover[:, None]
