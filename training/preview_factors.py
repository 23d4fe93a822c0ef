"""Fits the colours that latents of the shipped demo model stand for.

``python -m training.preview_factors`` prints the factors and the constant that
`adastate_comfy/model/demo_models.py` keeps, and how much of the pictures they explain.

The rotation of :mod:`training.preview` turns the latents so that Wan's own factors come as near as
a rotation can; these factors are those of the demo itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training.evaluate import CFG, STEPS, fixed_pairs
from training.generate import NodeGenerator
from training.settings import use_threads

STREAMS, CHUNKS = 10, 3


class LatentGenerator(NodeGenerator):
    """Streams of which the latents are kept, in the model's space."""

    latents: Tensor

    def _stream(self, *arguments: object) -> tuple[object, object]:
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
    solution = torch.linalg.lstsq(points, colours).solution
    left = (points @ solution - colours).square().sum()
    spread = (colours - colours.mean(dim=0)).square().sum()
    return solution, 1.0 - float(left / spread)


def main() -> None:
    """Print the factors of the shipped models."""
    use_threads()
    generate = LatentGenerator(STEPS, CFG)
    points, colours = [], []
    for prompt, seed in fixed_pairs(STREAMS):
        frames = torch.from_numpy(generate("adaptive", prompt, seed, CHUNKS))
        small = avg_pool2d(frames.permute(0, 3, 1, 2) * 2.0 - 1.0, 8)
        # The first latent frame holds one picture, each later one four.
        means = torch.cat([small[:1], small[1:].unflatten(0, (-1, 4)).mean(1)])
        points.append(generate.latents[0].float().movedim(0, -1).flatten(0, 2))
        colours.append(means.movedim(1, -1).flatten(0, 2))
    solution, explained = fit(torch.cat(points), torch.cat(colours))
    for row in solution.tolist():
        print("    (" + ", ".join(f"{value:.4f}" for value in row) + "),")
    print(f"explained: {explained:.3f}")


if __name__ == "__main__":
    main()
