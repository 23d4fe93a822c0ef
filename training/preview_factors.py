"""Fits the colours that latents of the shipped demo model stand for.

``python -m training.preview_factors`` prints the factors and the constant that
`adastate_comfy/model/demo_models.py` keeps, and how much of the pictures they explain.

The rotation of :mod:`training.preview` turns the latents so that Wan's own factors come as near as
a rotation can; these factors are those of the demo itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training.generate import NodeGenerator
from training.prompts import parse_prompt

PROMPTS = (
    "red square moving left, camera still, blue hills",
    "yellow circle moving right, camera still, green mountains",
    "green square moving up, camera still, golden city",
    "cyan circle moving down, camera still, violet hills",
    "blue square moving left, camera still, golden mountains",
    "pink circle moving right, camera still, green city",
)
"""One of each colour, and every tint of the scenery."""
CHUNKS, STEPS, CFG = 1, 4, 2.0
_GREY = 0.1
"""Weight of a place without any colour, beside 2 of the most colourful: most places are pale."""


class LatentGenerator(NodeGenerator):
    """Streams of which the latents are kept, in the model's space."""

    latents: Tensor

    def _stream(self, *arguments: Any) -> Any:
        state, latent = super()._stream(*arguments)
        self.latents = state.content()
        return state, latent


def fit(latents: Tensor, colours: Tensor) -> tuple[Tensor, float]:
    """Return the least-squares solution ``(17, 3)``, the constant last, and its share explained.

    Args:
        latents: ``(N, 16)``, in the model's space.
        colours: Mean colours at the same places, ``(N, 3)`` in [-1, 1].
    """
    points = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    weights = (_GREY + colours.amax(1, keepdim=True) - colours.amin(1, keepdim=True)).sqrt()
    solution = torch.linalg.lstsq(points * weights, colours * weights).solution
    left = (points @ solution - colours).square().sum()
    spread = (colours - colours.mean(dim=0)).square().sum()
    return solution, 1.0 - float(left / spread)


def main() -> None:
    """Print the factors of the shipped models."""
    torch.set_num_threads(1)  # the models are small
    generate = LatentGenerator(STEPS, CFG)
    points, colours = [], []
    for seed, text in enumerate(PROMPTS):
        frames = torch.from_numpy(generate("adaptive", parse_prompt(text), seed, CHUNKS))
        small = avg_pool2d(frames.permute(0, 3, 1, 2) * 2.0 - 1.0, 8)
        # The first latent frame holds one picture, each later one four.
        means = torch.cat([small[:1], small[1:].unflatten(0, (-1, 4)).mean(1)])
        points.append(generate.latents[0].float().movedim(0, -1).flatten(0, 2))
        colours.append(means.movedim(1, -1).flatten(0, 2))
    solution, explained = fit(torch.cat(points), torch.cat(colours))
    for row in solution.tolist():
        print("    (" + ", ".join(f"{value:.4f}" for value in row) + "),")
    print(f"# explained: {explained:.3f}")


if __name__ == "__main__":
    main()
