"""What a run obeys: how much worse it denoises first chunks whose prompt says something else.

A run that takes no notice of a word denoises as well under any other word: its ratio is 1. The
chunks are of prompts that nobody trains on, so that what is learned by heart does not count.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.anchors.clips import Clip, subject_mask
from training.anchors.draws import Draws
from training.anchors.latents import FOLDER, LatentScale, encode_openings, write_whole
from training.anchors.memory import Memory, anchor_config
from training.anchors.network import Network
from training.anchors.rollout import Task, weighted
from training.anchors.runs import run_folder
from training.anchors.streaming import Weights, embedded
from training.anchors.train_vae import ENCODED_BY
from training.panorama.prompts import CHOICES, Prompt, sentence, split
from training.train_dit import mix_noise, part
from training.train_vae import load_vae

EXAMINED = FOLDER / "examined.safetensors"
# Number of the first clip that is examined, clips, clips at a time, and noise levels.
FIRST, CLIPS, BATCH = 90_000_000, 48, 8
LEVELS = (0.97, 0.8)


def examined_clips() -> list[Clip]:
    """Draw the clips: of prompts that nobody trains on, from their departure on."""
    prompts, draws = split(unseen=True), np.random.default_rng(FIRST)
    rows = draws.choice(len(prompts), CLIPS, replace=False)
    return [Clip(FIRST + 2 * i, prompts[int(row)], 0) for i, row in enumerate(rows)]


def changed(prompt: Prompt) -> dict[str, str]:
    """Say what else a prompt could say: each part by itself, both regions swapped, nothing.

    >>> prompt = split(unseen=True)[0]
    >>> changed(prompt)["true"] == prompt.text
    True
    """
    parts = asdict(prompt)
    texts = {"true": prompt.text}
    for (name, said), known in zip(parts.items(), CHOICES, strict=True):
        # The region across the ring, and of everything else what is next.
        other = known[(known.index(said) + len(known) // 2) % len(known)]
        texts[name] = sentence(**parts | {name: other})
    swapped = {"origin": prompt.destination, "destination": prompt.origin}
    return texts | {"swapped": sentence(**parts | swapped), "empty": ""}


@torch.no_grad()
def first_chunks(folder: Path) -> Tensor:
    """Return normalised first chunks ``(48, 16, 3, h, w)``; encodes them the first time."""
    path = folder / EXAMINED
    if not path.exists():
        vae, clips, device = load_vae(folder / ENCODED_BY), examined_clips(), torch.device("cpu")
        parts = [encode_openings(vae, clips[i : i + 2], device) for i in range(0, len(clips), 2)]
        write_whole({"content": torch.cat([part["content"] for part in parts])}, path)
    return LatentScale.read(folder, torch.device("cpu")).normalised(load_file(path)["content"])


@torch.no_grad()
def obedience(folder: Path, name: str) -> dict[float, dict[str, float]]:
    """Return by noise level the loss under each changed prompt over that under the true one."""
    weights, clean = Weights.load(run_folder(folder, name)), first_chunks(folder)
    params, network = part(weights.params, "dit.", torch.float32), Network(weights.config)
    at = Memory(anchor_config("none")).layout()
    weight = weighted(subject_mask(examined_clips())[:, 0, 1:], Task("none").subject_weight)
    noise = Draws(0, 0, clean.device).noise("examined", clean, 0)
    texts = [changed(clip.prompt) for clip in examined_clips()]
    ratios = {}
    for level in LEVELS:
        noisy, t = mix_noise(clean, noise, torch.full((CLIPS,), level)), 1000.0 * level
        losses = {}
        for kind in texts[0]:
            errors = []
            for i in range(0, CLIPS, BATCH):
                rows = slice(i, i + BATCH)
                words = embedded(weights, [said[kind] for said in texts[rows]])
                seen = network.velocity(
                    params, noisy[rows], torch.full((BATCH,), t), words, None, at
                )
                error = (seen - (noise - clean)[rows]).square().mean(1)
                errors.append((error * weight[rows]).mean())
            losses[kind] = float(torch.stack(errors).mean())
        ratios[level] = {kind: loss / losses["true"] for kind, loss in losses.items()}
        ratios[level]["true"] = losses["true"]
    return ratios


def obedience_table(folder: Path, name: str) -> str:
    """Return a table: a row for each noise level, and a column for what the prompt says wrong."""
    ratios = obedience(folder, name)
    rows = [["noise", *next(iter(ratios.values()))]]
    rows += [[f"{level:g}", *(f"{x:.3f}" for x in row.values())] for level, row in ratios.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
