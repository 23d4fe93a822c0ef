"""What the files of the demo do not say of themselves: its words, its colours, how it is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "demo"


@dataclass(frozen=True)
class DemoWorld:
    """The world that the demo's models were trained on.

    Args:
        words: All that its text encoder knows.
        fingerprint: What a fingerprint says of the weights of the DiT.
        latent_rgb_factors: Red, green and blue of each channel of a latent.
        latent_rgb_factors_bias: The constant of each colour.
    """

    words: tuple[str, ...]
    fingerprint: str
    latent_rgb_factors: tuple[tuple[float, ...], ...]
    latent_rgb_factors_bias: tuple[float, ...]


@cache
def demo_world() -> DemoWorld:
    """Read it; `python -m training.preview_factors` writes colours and fingerprint."""
    said = json.loads((FOLDER / "world.json").read_text(encoding="utf-8"))
    return DemoWorld(
        tuple(said["words"]),
        said["fingerprint"],
        tuple(map(tuple, said["latent_rgb_factors"])),
        tuple(said["latent_rgb_factors_bias"]),
    )
