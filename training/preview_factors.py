"""Fits the colours that latents of the shipped demo model stand for.

``python -m training.preview_factors`` writes the factors and the constant, and the fingerprint of
the model, into `assets/demo/world.json`, and prints how much of the pictures they explain. The
words in that file are written by hand, in the order of the grammar; a test holds them against the
text encoder.

The rotation of :mod:`training.preview` turns the latents so that Wan's own factors come as near as
a rotation can; these factors are those of the demo itself.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training.generate import NodeGenerator
from training.prompts import parse_prompt
from training.settings import ASSETS

WORLD = ASSETS / "world.json"

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
    fingerprint: str

    def _stream(self, *arguments: Any) -> Any:
        state, latent = super()._stream(*arguments)
        self.latents, self.fingerprint = state.content(), state.fingerprint.sampled
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


def world_text(words: list[str], fingerprint: str, solution: Tensor) -> str:
    """Return the content of the file: a line for each channel of a latent.

    Args:
        words: All that the text encoder knows.
        fingerprint: What a fingerprint says of the weights of the DiT.
        solution: As `fit` returns it.
    """
    *factors, bias = [[round(value, 4) for value in row] for row in solution.tolist()]
    rows = ",\n".join(f"  {json.dumps(row)}" for row in factors)
    return (
        "{\n"
        f' "words": {json.dumps(words)},\n'
        f' "fingerprint": {json.dumps(fingerprint)},\n'
        f' "latent_rgb_factors": [\n{rows}\n ],\n'
        f' "latent_rgb_factors_bias": {json.dumps(bias)}\n'
        "}\n"
    )


def main() -> None:
    """Fit the colours of the shipped models and keep them."""
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
    words = json.loads(WORLD.read_text("utf-8"))["words"]
    WORLD.write_text(world_text(words, generate.fingerprint, solution), "utf-8")
    print(f"{WORLD}: explained {explained:.3f}")


if __name__ == "__main__":
    main()
