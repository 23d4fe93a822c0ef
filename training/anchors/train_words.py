"""Teaches the text encoder the grammar: every word of a prompt comes to know all that it says.

A DiT looks at few words at first, and learns what others mean only once it looks at them. After
1,700 updates ours obeyed light and colour, and took no notice of the region. Once every word tells
the region too, it matters where the DiT looks already.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from training import text
from training.anchors.draws import Draws
from training.anchors.latents import write_whole
from training.anchors.words import tokens
from training.optim import warmup_stable_decay
from training.panorama.prompts import (
    ACTIONS,
    COLOURS,
    HEADINGS,
    LIGHTS,
    PACES,
    REGIONS,
    SUBJECTS,
    Prompt,
    split,
)
from training.settings import stage_logger
from training.train_dit import part

WORDS = "words.safetensors"
# What a prompt says, part by part, as `Prompt` has it.
CHOICES = (COLOURS, SUBJECTS, ACTIONS, HEADINGS, PACES, REGIONS, REGIONS, LIGHTS)
PROMPTS, RATE, READER_RATE = 48, 2e-3, 6e-3
# Weight of staying near what the encoder said before, which a DiT may know.
NEAR = 0.05


def choices_of(prompts: Sequence[Prompt]) -> Tensor:
    """Number what prompts say ``(N, 8)``, each part among its choices."""
    return torch.tensor(
        [
            [known.index(said) for said, known in zip(astuple(prompt), CHOICES, strict=True)]
            for prompt in prompts
        ]
    )


class WordReader(torch.nn.Module):
    """A linear layer that reads all parts of a prompt off one of its words."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(text.D_MODEL, sum(map(len, CHOICES)))
        torch.nn.init.zeros_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, words: Tensor) -> tuple[Tensor, ...]:
        """Return logits ``(N, choices)`` of each part, of words ``(N, 256)``."""
        return self.layer(words).split([len(known) for known in CHOICES], -1)


def teach(
    folder: Path, begin: dict[str, Tensor], minutes: float, seed: int = 3, most: int = 100_000
) -> Path:
    """Teach an encoder for ``minutes``, or ``most`` steps, and write it.

    Args:
        folder: Where it goes.
        begin: Parameters of a run, its encoder's under ``text.``.
        minutes: How long.
        seed: Of the draws.
        most: Steps at most.
    """
    log, started = stage_logger("words"), time.monotonic()
    before = part(begin, "text.", torch.float32)
    params = {name: value.clone().requires_grad_() for name, value in before.items()}
    reader, prompts = WordReader(), split(unseen=False)
    groups = [
        {"params": list(params.values()), "lr": RATE},
        {"params": list(reader.parameters()), "lr": READER_RATE},
    ]
    optimizer = torch.optim.Adam(groups)
    for step in range(most):
        share = max((time.monotonic() - started) / (60.0 * minutes), step / most)
        if share >= 1.0:
            break
        for group, rate in zip(optimizer.param_groups, (RATE, READER_RATE), strict=True):
            group["lr"] = rate * warmup_stable_decay(share, step)
        rows = Draws(seed, step, torch.device("cpu")).pick("words", range(len(prompts)), PROMPTS)
        picked = [prompts[row] for row in rows]
        ids, lengths = tokens([prompt.text for prompt in picked], torch.device("cpu"))
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        words = text.encode(params, ids, lengths)[real]
        near = (words - text.encode(before, ids, lengths)[real]).square().mean()
        said = choices_of(picked)[:, None].expand(-1, ids.shape[1], -1)[real]
        losses = [cross_entropy(seen, said[:, i]) for i, seen in enumerate(reader(words))]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        (loss + NEAR * near).backward()
        optimizer.step()
        if step % 50 == 0:
            told = step, time.monotonic() - started, float(loss.detach()), float(near.detach())
            log.info("step %d, %.0f s, loss %.3f, moved %.3f", *told)
    path = folder / WORDS
    write_whole({f"text.{name}": value.detach() for name, value in params.items()}, path)
    return path


def taught(folder: Path) -> dict[str, Tensor]:
    """Return the encoder that was taught in a folder, nothing if none was."""
    path = folder / WORDS
    return load_file(path) if path.exists() else {}
