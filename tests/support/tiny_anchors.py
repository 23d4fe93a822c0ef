"""A tiny DiT with latents of the panorama, in the files that training reads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from training import dit, text
from training.anchors.latents import FOLDER, ROWS, SCALE, SHARD, shard_path, write_whole
from training.anchors.runs import AVERAGE, BASE, run_folder
from training.anchors.words import tokenizer
from training.dit import DitConfig, Params

TINY = DitConfig(dim=128, ffn_dim=32, layers=2, text_dim=text.D_MODEL)
HEADER = {
    "anchors": "adaptive frozen none ema",
    "seed": "0",
    "alpha": "2",
    "updates": "0",
    "seconds": "0.0",
    "first": "nan",
    "later": "nan",
}


def tiny_params(config: DitConfig = TINY, seed: int = 0) -> Params:
    """Return parameters none of which is zero."""
    generator = torch.Generator().manual_seed(seed)
    params = {f"dit.{n}": v for n, v in dit.init_params(config, generator).items()}
    params |= {f"text.{n}": v for n, v in text.init_params(tokenizer().size, generator).items()}
    return {n: v + 0.05 * torch.randn(v.shape, generator=generator) for n, v in params.items()}


def fill_folder(folder: Path, shards: int = 1) -> None:
    """Write latents of noise, openings too, their scale, and a base of the tiny size."""
    generator = torch.Generator().manual_seed(9)
    (folder / FOLDER).mkdir(parents=True)
    for index in range(shards):
        frames = {"content": 18, "state": 6, "origin": 3}
        shard = {
            name: torch.randn(SHARD, 16, count, 14, 24, generator=generator).half()
            for name, count in frames.items()
        }
        write_whole(shard, shard_path(folder, index))
        opening = {
            name: torch.randn(ROWS["opening"], 16, count, 14, 24, generator=generator).half()
            for name, count in (("content", 3), ("state", 1))
        }
        write_whole(opening, shard_path(folder, index, "opening"))
    write_whole({"mean": torch.zeros(16), "std": torch.ones(16)}, folder / FOLDER / SCALE)
    home = run_folder(folder, BASE)
    home.mkdir(parents=True)
    save_file(tiny_params(), home / AVERAGE, HEADER)
