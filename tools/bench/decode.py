"""Decoding part by part against VAE Decode, the whole video at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tools.bench.models import wan_vae
from tools.bench.streams import CHUNK
from tools.bench.table import Row
from tools.bench.timing import in_turns, median, overhead
from tools.inprocess import Pack

TARGET, SAME = 1.05, 1e-4
"""Of the time, and of the largest difference of a picture, 0 to 1."""


@dataclass(frozen=True)
class Setting:
    """The real VAE has `dim` 96."""

    dim: int = 16
    frames: int = 15
    size: tuple[int, int] = (8, 12)
    pairs: int = 9


FULL, SMALL = Setting(), Setting(dim=8, frames=6, size=(4, 4), pairs=2)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return the ratio of the times and the difference of the pictures."""
    print(f"decode: {setting.frames} latent frames", flush=True)
    vae = wan_vae(setting.dim)
    source = torch.Generator().manual_seed(4)
    latents = torch.randn((1, 16, setting.frames, *setting.size), generator=source)
    parts, whole = partial(_in_parts, pack, vae, latents), partial(_at_once, vae, latents)
    difference = float((parts() - whole()).abs().max())
    pairs = in_turns(parts, whole, setting.pairs)
    return {
        "decode_ratio": overhead(pairs),
        "largest_difference": difference,
        "lowest": min(pair.ratio for pair in pairs),
        "highest": max(pair.ratio for pair in pairs),
        "parts_seconds": median(pair.ours for pair in pairs),
        "whole_seconds": median(pair.bare for pair in pairs),
        "setting": vars(setting),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measures beside their targets."""
    return [
        Row(f"decoding {CHUNK} by {CHUNK} over at once", result["decode_ratio"], TARGET),
        Row("the same, largest difference of a picture", result["largest_difference"], SAME),
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return the seconds behind the ratio."""
    setting = result["setting"]
    return [
        f"{setting['frames']} latent frames: in parts {result['parts_seconds']:.2f} s, at once "
        f"{result['whole_seconds']:.2f} s; pairs {result['lowest']:.3f} to {result['highest']:.3f}"
    ]


def _in_parts(pack: Pack, vae: Any, latents: Tensor) -> Tensor:
    parts = latents.split(CHUNK, dim=2)
    decoder = pack.part("adastate_comfy.video.decoders").open_decoder(vae, tuple(parts[0].shape))
    decoder.load()
    return torch.cat([decoder.decode(part) for part in parts], dim=1)


def _at_once(vae: Any, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        pictures: Tensor = vae.decode(latents)
    return pictures
