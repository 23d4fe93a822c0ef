"""Generates with training's own batched rollout: fast, for a look while training runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from training import text
from training.prompts import Prompt
from training.rollout import Row, Stream, generate_latents, shifted_sigmas
from training.settings import work_dir
from training.train_dit import CONFIG, part
from training.train_vae import load_vae, newest_vae
from training.vae import ClipVAE

Array = NDArray[np.float32]
STEPS, SHIFT = 8, 3.0


def decode(vae: ClipVAE, latents: torch.Tensor, span: int = 24, overlap: int = 5) -> Array:
    """Decode ``(1, 16, T, h, w)`` piecewise to ``(1 + 4 (T - 1), H, W, 3)`` in [0, 1]."""
    pieces, start = [], 0
    with torch.no_grad():
        while start < latents.shape[2]:
            # A later piece starts early: its first frames only fill the decoder's past.
            lead = min(start, overlap)
            part_ = latents[:, :, start - lead : start + span].to(torch.bfloat16)
            video = vae.decode(part_.contiguous(memory_format=torch.channels_last_3d))[0].float()
            pieces.append(video[:, 1 + 4 * (lead - 1) :] if lead else video)
            start += span
    frames = torch.cat(pieces, 1).permute(1, 2, 3, 0)
    return ((frames + 1.0) / 2.0).clamp(0.0, 1.0).numpy()


@dataclass(slots=True)
class OwnRollout:
    """Generates with training's rollout; all pairs of a row stream together and are remembered."""

    pairs: list[tuple[Prompt, int]]
    steps: int = STEPS
    shift: float = SHIFT
    weights: Path | None = None
    batch: int = 16
    latents: dict[tuple[Row, str, int, int], torch.Tensor] = field(default_factory=dict)

    def stream_row(self, row: Row, pairs: list[tuple[Prompt, int]], chunks: int) -> None:
        params = load_file(self.weights or work_dir() / "dit_average.safetensors")
        tokenizer = text.Tokenizer(text.vocabulary())
        ids, lengths = tokenizer([prompt.text for prompt, _ in pairs])
        words = text.encode(part(params, "text.", torch.float32), ids, lengths)
        stream = Stream(
            part(params, "dit.", torch.bfloat16), CONFIG, words.to(torch.bfloat16), lengths, row
        )
        seeds = [seed for _, seed in pairs]
        made, _ = generate_latents(stream, seeds, chunks, shifted_sigmas(self.steps, self.shift))
        for i, (prompt, seed) in enumerate(pairs):
            self.latents[row, prompt.text, seed, chunks] = made[i : i + 1].clone()

    def __call__(self, row: Row, prompt: Prompt, seed: int, chunks: int) -> Array:
        key = (row, prompt.text, seed, chunks)
        if key not in self.latents:
            known = {(p.text, s) for p, s in self.pairs}
            pairs = self.pairs if (prompt.text, seed) in known else [(prompt, seed)]
            for first in range(0, len(pairs), self.batch):
                self.stream_row(row, pairs[first : first + self.batch], chunks)
        folder = work_dir()
        scale = load_file(folder / "latents" / "scale.safetensors")
        mean, std = (scale[name].view(1, -1, 1, 1, 1) for name in ("mean", "std"))
        vae = load_vae(newest_vae(folder)).to(torch.bfloat16)
        return decode(vae, self.latents.pop(key) * std + mean)
