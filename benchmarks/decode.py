"""Decoding part by part against VAE Decode, the whole video at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Measured, Row, in_turns, pack
from benchmarks.models import wan_vae
from benchmarks.streams import CHUNK


@dataclass(frozen=True)
class Decode:
    """Latents and a VAE; the real one has `dim` 96."""

    dim: int = 16
    frames: int = 15
    size: tuple[int, int] = (8, 12)
    pairs: int = 9

    def measure(self) -> Measured:
        """Return the ratio of the times and the difference of the pictures."""
        vae = wan_vae(self.dim)
        source = torch.Generator().manual_seed(4)
        latents = torch.randn((1, 16, self.frames, *self.size), generator=source)
        parts, whole = partial(_in_parts, vae, latents), partial(_at_once, vae, latents)
        difference = float((parts() - whole()).abs().max())
        pairs = in_turns(parts, whole, self.pairs)
        details: dict[str, Any] = {"largest_difference": difference, "setting": vars(self)}
        details |= pairs.details("decode_ratio", "parts_seconds", "whole_seconds")
        rows = [
            Row(f"decoding {CHUNK} by {CHUNK} over at once", pairs.ratio, 1.05),
            Row("the same, largest difference of a picture", difference, 1e-4),
        ]
        return Measured(rows, details)


def _in_parts(vae: Any, latents: Tensor) -> Tensor:
    parts = latents.split(CHUNK, dim=2)
    decoder = pack().part("adastate_comfy.video.decoders").open_decoder(vae, tuple(parts[0].shape))
    decoder.load()
    return torch.cat([decoder.decode(part) for part in parts], dim=1)


def _at_once(vae: Any, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        pictures: Tensor = vae.decode(latents)
    return pictures
