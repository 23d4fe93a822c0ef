"""Says which clips are encoded: the prompt of each, and where on its way it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from training.anchors.pictures import draw_prompt, last_departure
from training.latents import frames_of
from training.panorama.journey import ARRIVAL, HEIGHT, SPEEDS, WIDTH, Journey, truth
from training.panorama.prompts import Prompt, split
from training.settings import CHUNK_FRAMES

CHUNKS = 6
FRAMES = frames_of(CHUNKS)


# Seeds below are those of the pictures from which the VAE learns.
FIRST_SEED = 1_000_000
# Numbers of clips of which only the first chunk is encoded.
FIRST_OPENING = 50_000_000
# Pictures around the moment of rest at which a clip of an arrival begins.
BEFORE_REST, AFTER_REST = 60, 12
# Reach of a subject around its middle, in pixels: half its width, and up and down.
ACROSS, UP, DOWN = 20.0, 16.0, 28.0


@dataclass(frozen=True, slots=True)
class Clip:
    """Six chunks of a journey, from picture ``begin`` of its way on."""

    number: int
    prompt: Prompt
    begin: int

    @classmethod
    def draw(cls, number: int) -> Clip:
        """Draw clip ``number``: half begin at departure, one in ten shows an arrival."""
        seed = FIRST_SEED + number
        prompt = draw_prompt(seed)
        roll = np.random.default_rng(seed).random()
        if number % 2 == 0:
            begin = 0
        elif number % 10 == 9:
            rest = (prompt.distance + ARRIVAL) / SPEEDS[prompt.pace]
            begin = int(rest - BEFORE_REST + roll * (BEFORE_REST + AFTER_REST))
        else:
            begin = 1 + int(roll * last_departure(prompt, FRAMES))
        return cls(number, prompt, begin)

    @classmethod
    def draw_opening(cls, number: int) -> Clip:
        """Draw opening ``number``: of another journey than any clip, from its departure on."""
        return cls.draw(FIRST_OPENING + 2 * number)

    @property
    def journey(self) -> Journey:
        return Journey.draw(self.prompt, FIRST_SEED + self.number)


@lru_cache(maxsize=1)
def prompt_numbers() -> dict[Prompt, int]:
    """Number every prompt of the training split."""
    return {prompt: number for number, prompt in enumerate(split(unseen=False))}


def picture_times(clips: Sequence[Clip]) -> Tensor:
    """Times of all pictures ``(N, 69)``, since departure."""
    return torch.arange(FRAMES, dtype=torch.float32) + begins(clips)


def origin_times(count: int) -> Tensor:
    """Times of the pictures of a first chunk ``(N, 9)``."""
    return torch.arange(frames_of(1), dtype=torch.float32).repeat(count, 1)


def state_places() -> list[int]:
    """Pictures of a clip that the state of each chunk is: the last of every chunk."""
    return [frames_of(chunk + 1) - 1 for chunk in range(CHUNKS)]


def middles(frames: Tensor) -> Tensor:
    """Times of the middles of latent frames, in pictures since the first one."""
    # A latent frame stands for four pictures; its middle is a picture and a half before its last.
    return (4.0 * frames.to(torch.float32) - 1.5).clamp(min=0.0)


def begins(clips: Sequence[Clip]) -> Tensor:
    return torch.tensor([[float(clip.begin)] for clip in clips])


def subject_mask(clips: Sequence[Clip]) -> Tensor:
    """Latent cells that the subject touches ``(N, 6, 4, h, w)``, state first, then content."""
    content = middles(torch.arange(CHUNK_FRAMES * CHUNKS))
    states = torch.tensor(state_places(), dtype=torch.float32)
    when = torch.cat([states[:, None], content.view(CHUNKS, CHUNK_FRAMES)], 1)
    told = truth([clip.journey for clip in clips], begins(clips) + when.flatten())
    shape = (len(clips), CHUNKS, 1 + CHUNK_FRAMES, 1, 1)
    x, y = told.x.view(shape), told.y.view(shape)
    # Cells of 8 pixels: one is touched if its middle is within half a cell of the subject.
    columns = 8.0 * torch.arange(WIDTH // 8) + 4.0
    rows = (8.0 * torch.arange(HEIGHT // 8) + 4.0)[:, None]
    beside = (columns - x).abs() < ACROSS + 4.0
    level = (rows - y > -UP - 4.0) & (rows - y < DOWN + 4.0)
    return beside & level
