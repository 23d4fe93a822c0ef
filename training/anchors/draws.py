"""Everything random about training, drawn from (seed, purpose, step) alone.

So an interrupted run goes on as if it had not been, and four runs of one seed draw alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adastate_core.training.plan import derived


@dataclass(frozen=True, slots=True)
class Draws:
    """The draws of one step.

    Args:
        seed: Seed of the run.
        step: Number of the step.
        device: Where large draws are made; a card draws other numbers than a CPU.
    """

    seed: int
    step: int
    device: torch.device

    def generator(self, purpose: str, device: torch.device | None = None) -> torch.Generator:
        seed = derived(self.seed, f"anchors:{purpose}", self.step)
        return torch.Generator(device or "cpu").manual_seed(seed)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Numbers in [0, 1), on the CPU."""
        return torch.rand(shape, generator=self.generator(purpose))

    def noise(self, purpose: str, like: Tensor, states: int) -> Tensor:
        """Noise for blocks ``(B, 16, states + 3, h, w)``.

        The content gets the same noise with a state or without.
        """
        parts = []
        for name, frames in (("state", states), ("content", like.shape[2] - states)):
            shape = (*like.shape[:2], frames, *like.shape[3:])
            source = self.generator(f"{purpose}:{name}", self.device)
            parts.append(torch.randn(shape, generator=source, device=self.device))
        return torch.cat(parts, 2)

    def pick(self, purpose: str, rows: Sequence[int], count: int) -> list[int]:
        """Pick rows, each at most once if there are enough."""
        source = self.generator(purpose)
        if len(rows) >= count:
            places = torch.randperm(len(rows), generator=source)[:count]
        else:
            places = torch.randint(len(rows), (count,), generator=source)
        return [rows[int(place)] for place in places]

    def sigmas(self, purpose: str, count: int, shift: float) -> Tensor:
        """Stratified noise levels ``(count,)``, shifted towards high noise."""
        order = torch.randperm(count, generator=self.generator(f"{purpose}:order"))
        u = (order + self.uniform(f"{purpose}:level", count)) / count
        return shift * u / (1.0 + (shift - 1.0) * u)
