"""Trains the reader on real clips, worn so that it does not break on generated latents.

Its errors on prompts that training never sees are kept with it: no figure is better than its
reader.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.measure.lessons import (
    Examples,
    join,
    load_examples,
    make_lessons,
    training_examples,
)
from training.measure.moments import RING
from training.measure.reader import BATCH, CELL, SPEED_UNIT, Reader, loss_of
from training.measure.space import Space
from training.settings import stage_logger

READER = "reader.safetensors"
RATE, DECAY, STEP_EXAMPLES = 2e-3, 0.02, 64
# The share of the minutes in which clips are encoded; the reader learns in the rest.
ENCODING = 0.6
# Cells that examples are moved aside at most.
SHIFT = 2
# What the last line of errors is measured under: what a stream of few steps leaves as noise.
NOISE = 0.25


def wear(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Wear latents ``(N, 16, 3, 14, 24)`` as generation does: noise, blur, drift of channels."""
    count = len(latents)

    def roll(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    def bell(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    amount = (roll(count, 1, 1, 1, 1) - 0.4).clamp(min=0.0)
    softened = F.avg_pool3d(latents, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    worn = latents + (softened - latents) * amount
    # Half of the examples stay free of noise.
    level = ((roll(count, 1, 1, 1, 1) - 0.5) * 0.9).clamp(min=0.0)
    worn = worn + level * bell(*latents.shape)
    strength = 0.08 * roll(count, 1, 1, 1, 1)
    gain = 1.0 + strength * bell(count, latents.shape[1], 1, 1, 1)
    return worn * gain + strength * bell(count, latents.shape[1], 1, 1, 1)


def shift(examples: Examples, generator: torch.Generator) -> Examples:
    """Move latents aside by whole cells, and with them the subject and the place."""
    count, width = len(examples), examples.latents.shape[-1]
    moves = torch.randint(-SHIFT, SHIFT + 1, (count,), generator=generator)
    columns = (torch.arange(width) + moves[:, None]).clamp(0, width - 1)
    index = columns[:, None, None, None].expand(examples.latents.shape)
    wanted = dict(examples.wanted)
    wanted["path"] = wanted["path"] - CELL * moves[:, None, None] * torch.tensor([1.0, 0.0])
    turn = moves * (CELL * math.tau / RING)
    x, y = wanted["place"].unbind(1)
    cos, sin = turn.cos(), turn.sin()
    wanted["place"] = torch.stack([x * cos - y * sin, x * sin + y * cos], 1)
    return Examples(examples.latents.gather(4, index), wanted)


def fit(
    reader: Reader,
    examples: Examples,
    seconds: float,
    seed: int = 0,
    most: float = math.inf,
    batch_size: int = STEP_EXAMPLES,
) -> int:
    """Train for some seconds, or at most so many steps; return how many were made."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(reader.parameters(), RATE, weight_decay=DECAY)
    begin, steps = time.monotonic(), 0
    reader.train()
    while (share := max((time.monotonic() - begin) / seconds, steps / most)) < 1.0:
        warm = min(1.0, (steps + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = RATE * warm * 0.5 * (1.0 + float(np.cos(np.pi * share)))
        rows = torch.randint(len(examples), (batch_size,), generator=generator)
        batch = shift(examples.pick(rows), generator)
        loss = loss_of(reader(wear(batch.latents, generator)), batch.wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
    reader.eval().requires_grad_(False)
    whiten(reader, examples)
    return steps


@torch.no_grad()
def whiten(reader: Reader, examples: Examples) -> None:
    """Give the features zero mean and unit variance over the real world."""
    reader.feature_mean.zero_()
    reader.feature_std.fill_(1.0)
    found = torch.cat([reader(part.float()).features for part in examples.latents.split(BATCH)])
    reader.feature_mean.copy_(found.mean(0))
    reader.feature_std.copy_(found.std(0).clamp(min=1e-3))


def errors(reader: Reader, examples: Examples, noise: float = 0.0) -> dict[str, float]:
    """Measure readings of held-out chunks against the truth.

    Returns:
        Median absolute errors of place (pixels of the ring), speed (pixels a picture), light and
        position (pixels); shares of right colours, subjects, directions and presences.
    """
    generator = torch.Generator().manual_seed(1)
    latents = examples.latents.float()
    latents = latents + noise * torch.randn(latents.shape, generator=generator)
    read, true = reader.read(latents), examples.wanted
    there = true["present"].numpy() > 0.5
    turn = np.angle(_complex(read.place) / _complex(true["place"].double().numpy()))
    speed = true["speed"].double().numpy()
    moving = np.abs(speed) > 0.2 * SPEED_UNIT
    reach = np.linalg.norm(read.path - true["path"].double().numpy(), axis=2).mean(1)
    return {
        "place": float(np.median(np.abs(turn)) * RING / (2.0 * np.pi)),
        "place, worst of 10": float(np.quantile(np.abs(turn), 0.9) * RING / (2.0 * np.pi)),
        "speed": float(np.median(np.abs(read.speed - speed))),
        "heading": float((np.sign(read.speed) == np.sign(speed))[moving].mean()),
        "light": float(np.median(np.abs(read.light - true["light"].double().numpy()))),
        "colour": _right(read.colour, true["colour"], there),
        "subject": _right(read.subject, true["subject"], there),
        "present": float(((read.present > 0.5) == there).mean()),
        "position": float(np.median(reach[there])),
    }


def _complex(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    joined: NDArray[np.complex128] = points[:, 0] + 1j * points[:, 1]
    return joined


def _right(scores: NDArray[np.float64], wanted: Tensor, there: NDArray[np.bool_]) -> float:
    return float((scores.argmax(1) == wanted.numpy())[there].mean())


def train_reader(
    folder: Path, space: Space, minutes: float, workers: int = 1, latents: Path | None = None
) -> Path:
    """Encode more clips, train a reader on all of them and write it with its errors.

    Args:
        folder: Keeps the clips, and gets the reader.
        space: The space that is read.
        minutes: For all of it.
        workers: Processes that encode.
        latents: What the DiT was trained on, if that is of this space: it teaches as well.
    """
    log = stage_logger("reader")
    # Clips of another space mean other things.
    clips = folder / f"clips-{space.digest}"
    shards = make_lessons(clips, space, ENCODING * minutes, workers)
    learned, held_out = load_examples(clips)
    if latents is not None:
        learned = join([learned, *training_examples(latents, space)])
    torch.manual_seed(0)
    reader = Reader()
    seconds = 60.0 * (1.0 - ENCODING) * minutes
    steps = fit(reader, learned, seconds)
    about: dict[str, object] = {
        "space": space.digest,
        "chunks": len(learned),
        "held_out_chunks": len(held_out),
        "steps": steps,
        "seconds": seconds,
        "errors": errors(reader, held_out),
        "errors_in_noise": errors(reader, held_out, NOISE),
    }
    log.info("%d shards, %d chunks, %d steps: %s", shards, len(learned), steps, about)
    reader.save(folder / READER, about)
    return folder / READER
