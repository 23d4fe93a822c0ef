"""Divides a layer into plots of equal width, each of which may hold one tree or one house."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama.canvas import Canvas
from training.panorama.journey import WIDTH
from training.panorama.noise import roll
from training.panorama.terrain import Layer, along, height, regions


@dataclass(frozen=True, slots=True)
class Plots:
    """The plots that pictures show and one more at each side: facts once a plot."""

    # Whole numbers of plots (P, plots), and which of these each column is on (P, W).
    number: Tensor
    index: Tensor
    salt: Tensor
    # Places of the columns on the layer, (P, W).
    v: Tensor

    @classmethod
    def under(cls, canvas: Canvas, layer: Layer, size: float) -> Plots:
        v = along(canvas, layer)
        cell = (v * (1.0 / size)).floor()
        first = cell[:, :1] - 1.0
        count = math.ceil(WIDTH / size) + 3
        number = first + torch.arange(count, device=v.device, dtype=torch.float32)
        return cls(number, (cell - first).to(torch.int64), canvas.salt, v)

    def roll(self, channel: int) -> Tensor:
        """Draw a number in [0, 1) for each plot."""
        return roll(self.number, self.salt, channel)

    def spread(self, facts: Tensor, step: int = 0) -> Tensor:
        """Give each column the fact of its plot, or of one ``step`` beside it."""
        return facts.gather(1, self.index + step)

    def ground(self, layer: Layer, places: Tensor) -> tuple[list[Tensor], Tensor]:
        """Shares of regions at places of plots, and rows of the ground there."""
        shares = regions(layer, places)
        return shares, layer.base - height(layer, places, self.salt, shares)
