"""Teaches a text encoder the grammar: every word of a prompt comes to know all that it says.

It is taught alone, by a linear reader of its words, and no run trains it on, as those of large
models stay as they are. UMT5 does not scale its logits: trained together with the DiT they grew
until every word looked at one other, no gradient went through that choice any more, and the regions
of a prompt never reached the DiT.
"""

from __future__ import annotations

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
from training.anchors.words import tokenizer, tokens
from training.optim import warmup_stable_decay
from training.panorama.prompts import CHOICES, Prompt, split
from training.settings import stage_logger

WORDS = "words.safetensors"
# Prompts of a step, steps, and every which unseen prompt is examined.
PROMPTS, STEPS, UNSEEN_STEP = 24, 400, 8
RATE, READER_RATE = 7e-4, 6e-3


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


def teach(folder: Path, steps: int = STEPS, seed: int = 3) -> float:
    """Teach a fresh encoder and write it.

    Args:
        folder: Where it goes.
        steps: Steps; 400 take a minute on one core, and 200 are nearly enough.
        seed: Of the encoder and of the draws.

    Returns:
        The share that the reader tells right of what unseen prompts say, over all words and parts.
    """
    log = stage_logger("words")
    source = torch.Generator().manual_seed(seed)
    params = text.init_params(tokenizer().size, source)
    params = {name: value.requires_grad_() for name, value in params.items()}
    reader, prompts = WordReader(), split(unseen=False)
    groups = [
        {"params": list(params.values()), "lr": RATE},
        {"params": list(reader.parameters()), "lr": READER_RATE},
    ]
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, (RATE, READER_RATE), strict=True):
            group["lr"] = rate * warmup_stable_decay(step / steps, step)
        rows = Draws(seed, step, torch.device("cpu")).pick("words", range(len(prompts)), PROMPTS)
        seen, said = read(params, reader, [prompts[row] for row in rows])
        losses = [cross_entropy(logits, said[:, i]) for i, logits in enumerate(seen)]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            log.info("step %d, loss %.4f", step, float(loss.detach()))
    values = {f"text.{name}": value.detach() for name, value in params.items()}
    write_whole(values, folder / WORDS)
    with torch.no_grad():
        seen, said = read(params, reader, split(unseen=True)[::UNSEEN_STEP])
    right = torch.stack([logits.argmax(-1) for logits in seen], -1) == said
    share = float(right.float().mean())
    log.info("of unseen prompts %.2f %% are told right", 100.0 * share)
    return share


def read(
    params: text.Params, reader: WordReader, prompts: Sequence[Prompt]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Read every word of prompts: logits of each part, and the truth ``(words, 8)``."""
    ids, lengths = tokens([prompt.text for prompt in prompts], torch.device("cpu"))
    longest = int(lengths.max())
    real = torch.arange(longest) < lengths[:, None]
    words = text.encode(params, ids[:, :longest], lengths)[real]
    return reader(words), choices_of(prompts)[:, None].expand(-1, longest, -1)[real]


def taught(folder: Path) -> dict[str, Tensor]:
    """Return the encoder that was taught in a folder, nothing if none was."""
    path = folder / WORDS
    return load_file(path) if path.exists() else {}
