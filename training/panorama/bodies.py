"""Draws the four subjects as cover, markings and roundness around their middle.

Coordinates are pixels from the middle of the coloured body, right and down, ``(P, H, W)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.panorama.noise import smooth

Part = tuple[tuple[float, float, float], Tensor]
WICKER, ROPE = (0.50, 0.34, 0.20), (0.30, 0.24, 0.20)
METAL, CAP = (0.42, 0.42, 0.46), (0.20, 0.17, 0.18)


@dataclass(frozen=True, slots=True)
class Body:
    """A coloured body, and the parts that hang before and behind it."""

    cover: Tensor
    # Across and down the body, -1 to 1, as markings are laid out on it.
    a: Tensor
    b: Tensor
    # Where the surface faces, how much light comes from inside, and how dark seams are.
    nx: Tensor
    ny: Tensor
    inner: Tensor
    seam: Tensor
    behind: list[Part] = field(default_factory=list)
    front: list[Part] = field(default_factory=list)


def marking(a: Tensor, b: Tensor, pattern: Tensor) -> Tensor:
    """Where the accent is on bodies, by numbers of patterns ``(P,)``."""
    edge = 0.07
    aside, high = a.abs(), b.abs()
    stripes = smooth(aside, 0.26 - edge, 0.26 + edge) * (
        1.0 - smooth(aside, 0.64 - edge, 0.64 + edge)
    )
    bands = smooth(high, 0.2 - edge, 0.2 + edge) * (1.0 - smooth(high, 0.56 - edge, 0.56 + edge))
    # Two opposite quarters, so that the coloured rest stays in the middle.
    right, low = smooth(a, -edge, edge), smooth(b, -edge, edge)
    quarters = right + low - 2.0 * right * low
    far = (a * a + b * b).sqrt()
    ring = smooth(far, 0.36 - edge, 0.36 + edge) * (1.0 - smooth(far, 0.7 - edge, 0.7 + edge))
    which = pattern[:, None, None]
    return torch.where(
        which == 0, stripes, torch.where(which == 1, bands, torch.where(which == 2, quarters, ring))
    )


def _inside(distance: Tensor) -> Tensor:
    return (0.5 - distance).clamp(0.0, 1.0)


def _box(dx: Tensor, dy: Tensor, half_x: float, half_y: float) -> Tensor:
    return _inside(dx.abs() - half_x) * _inside(dy.abs() - half_y)


def balloon(dx: Tensor, dy: Tensor, moment: Tensor, heading: Tensor) -> Body:
    """An envelope of gores that tapers to its mouth, with a basket on ropes."""
    radius, mouth = 12.5, 13.0
    dy = dy + 1.0
    round_half = (radius * radius - dy * dy).clamp(min=0.0).sqrt()
    t = (dy * (1.0 / mouth)).clamp(0.0, 1.0)
    taper = radius + (3.2 - radius) * t * t * (1.35 - 0.35 * t)
    half = torch.where(dy > 0.0, taper, round_half)
    steep = torch.where(dy > 0.0, 1.2 * t, (-dy) / round_half.clamp(min=1.0)).clamp(max=3.0)
    edge = (half - dx.abs()) * (1.0 + steep * steep).rsqrt()
    # Around its top a circle tells the distance better than a row does.
    circle = radius - (dx * dx + dy * dy).sqrt()
    edge = torch.where(dy > 0.0, edge, circle)
    cover = (edge + 0.5).clamp(0.0, 1.0) * _inside(dy - mouth)
    a = (dx / half.clamp(min=1.0)).clamp(-1.0, 1.0)
    b = ((dy + 0.5) * (1.0 / 13.0)).clamp(-1.2, 1.2)
    # Eight gores: their seams crowd towards the rims as meridians do.
    angle = a * (1.0 + 0.57 * a * a)
    gore = (angle * 2.55 - (angle * 2.55).round()).abs()
    seam = 0.13 * smooth(gore, 0.34, 0.5) * smooth(half, 3.0, 8.0)
    inner = (1.0 - smooth((dx * dx + (dy - 8.0) * (dy - 8.0)).sqrt(), 0.0, 16.0)) * 0.6
    ropes = _inside(((dx.abs() - (3.4 - (dy - mouth) * 0.12)).abs()) - 0.15) * _box(
        dx, dy - 15.5, 6.0, 2.8
    )
    basket = _box(dx, dy - 20.0, 3.4, 2.4)
    return Body(
        cover,
        a,
        b,
        a * 0.95,
        b * 0.9,
        inner,
        seam,
        [(ROPE, ropes * 0.8)],
        [(WICKER, basket)],
    )


def kite(dx: Tensor, dy: Tensor, moment: Tensor, heading: Tensor) -> Body:
    """A diamond on a cross of spars, with a tail that waves and carries bows."""
    up, down, wide = 12.5, 15.5, 12.0
    dy = dy + 1.5
    height = torch.where(dy < 0.0, up, down)
    norm = dx.abs() * (1.0 / wide) + dy.abs() / height
    scale = (1.0 / (wide * wide) + 1.0 / (height * height)).rsqrt()
    cover = (0.5 + (1.0 - norm) * scale).clamp(0.0, 1.0)
    a, b = dx * (1.15 / wide), dy * (1.15 / 14.0)
    fold = smooth(dx, -0.8, 0.8) * 2.0 - 1.0
    seam = 0.3 * torch.maximum(_inside(dx.abs() - 0.3), _inside(dy.abs() - 0.3))
    below = dy - down
    s = (below * (1.0 / 16.0)).clamp(0.0, 1.0)
    swing = 4.5 * s * (s * 5.0 - moment * 0.16).sin() - heading * 3.0 * s * s
    tail = _inside((dx - swing).abs() * 0.85 - 0.55) * _inside(-below - 0.5) * _inside(below - 15.0)
    bows: Tensor | None = None
    for at in (5.0, 10.5):
        part = at / 16.0
        middle = 4.5 * part * (part * 5.0 - moment * 0.16).sin() - heading * 3.0 * part * part
        bx, by = (dx - middle).abs(), (below - at).abs()
        bow = _inside(torch.maximum(bx - 3.0, by - 0.4 - bx * 0.6))
        bows = bow if bows is None else torch.maximum(bows, bow)
    assert bows is not None
    zero = torch.zeros_like(cover)
    return Body(
        cover,
        a,
        b,
        fold * 0.55 + dx * 0.02,
        b * 0.35,
        zero,
        seam,
        [((0.93, 0.90, 0.82), tail), ((0.93, 0.90, 0.82), bows)],
        [],
    )


def airship(dx: Tensor, dy: Tensor, moment: Tensor, heading: Tensor) -> Body:
    """A long hull with fins at its tail and a gondola, its nose to the heading."""
    long, tall = 21.0, 9.0
    # The fins weigh on the middle of the coloured body.
    dx = dx * heading - 1.2
    # Blunter at the nose than at the tail.
    nose = (dx * (1.0 / long)).clamp(-1.05, 1.05)
    half = tall * (1.0 - nose * nose).clamp(min=0.0).sqrt() * (1.0 + 0.14 * nose)
    x, y = dx * (1.0 / long), dy * (1.0 / tall)
    y = y / (1.0 + 0.14 * nose)
    norm = (x * x + y * y).sqrt()
    gradient = ((x * (1.0 / long)).square() + (y * (1.0 / tall)).square()).sqrt() / norm.clamp(
        min=1e-3
    )
    cover = ((1.0 - norm) / gradient.clamp(min=1e-3) + 0.5).clamp(0.0, 1.0)
    b = (dy / half.clamp(min=1.0)).clamp(-1.0, 1.0)
    a = x
    rib = (b * 2.0 - (b * 2.0).round()).abs()
    seam = 0.1 * smooth(rib, 0.3, 0.5)
    fin_x = dx + 17.0
    sweep = (6.6 - fin_x * 0.55).clamp(max=8.6)
    fin = _inside(fin_x.abs() - 4.5) * _inside(dy.abs() - sweep)
    # Fins are of the same cloth, in the shade of the hull.
    tail = fin * (1.0 - cover)
    seam = seam * cover + 0.22 * tail
    cover = torch.maximum(cover, fin)
    gondola = _inside((dx - 2.0).abs() - 5.5) * _inside((dy - 10.0).abs() - 2.0)
    glass = _inside((dx - 3.5).abs() - 2.6) * _inside((dy - 9.8).abs() - 0.7)
    shade = b * 0.9
    return Body(
        cover,
        a,
        b,
        x * 0.5 * heading,
        shade,
        torch.zeros_like(cover),
        seam,
        [(CAP, gondola)],
        [((0.98, 0.88, 0.62), glass)],
    )


def lantern(dx: Tensor, dy: Tensor, moment: Tensor, heading: Tensor) -> Body:
    """A round paper lantern with ribs, caps and a tassel, lit from inside."""
    wide, tall = 12.5, 11.5
    flat = (dy * (1.0 / tall)).clamp(-1.0, 1.0)
    half = wide * (1.0 - 0.72 * flat.abs() ** 2.6)
    steep = 0.72 * 2.6 * flat.abs() ** 1.6 * (wide / tall)
    cover = ((half - dx.abs()) * (1.0 + steep * steep).rsqrt() + 0.5).clamp(0.0, 1.0)
    cover = cover * _inside(dy.abs() - tall)
    a, b = (dx / half.clamp(min=1.0)).clamp(-1.0, 1.0), flat
    rib = (dy * (1.0 / 4.2) - (dy * (1.0 / 4.2)).round()).abs()
    seam = 0.12 * smooth(rib, 0.28, 0.5)
    far = (dx * dx + (dy - 1.5) * (dy - 1.5)).sqrt()
    inner = 1.0 - smooth(far, 1.0, 13.5)
    caps = torch.maximum(_box(dx, dy + 12.2, 4.6, 1.4), _box(dx, dy - 12.2, 4.6, 1.4))
    swing = 1.2 * (moment * 0.13).sin() * ((dy - 13.0) * (1.0 / 8.0)).clamp(0.0, 1.0)
    tassel = _inside((dx - swing).abs() - 0.9 - ((dy - 15.0) * 0.12).clamp(0.0, 1.0)) * _inside(
        (dy - 17.0).abs() - 4.0
    )
    hook = _inside(dx.abs() - 0.4) * _inside((dy + 15.0).abs() - 1.8)
    return Body(
        cover,
        a,
        b,
        a * 0.8,
        b * 0.6,
        inner,
        seam,
        [((0.86, 0.70, 0.36), tassel), (CAP, hook)],
        [(CAP, caps)],
    )


BODIES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Body]] = {
    "balloon": balloon,
    "kite": kite,
    "airship": airship,
    "lantern": lantern,
}
