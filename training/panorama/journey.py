"""Says where everything is at any moment of a clip: the camera, the light and the subject.

How that looks belongs to :mod:`training.panorama.render`. Times are pictures since departure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.panorama.prompts import ACTIONS, LIGHTS, REGION_LENGTH, REGIONS, Prompt

# Multiples of 16: the VAE halves three times and the DiT takes 2x2 patches.
WIDTH, HEIGHT = 192, 112
FPS = 12

PATTERNS = ("stripes", "bands", "quarters", "ring")
ACCENTS = ("cream", "dark")
SPEEDS = {"slow": 1.5, "steady": 2.5, "quick": 4.0}
# The camera slows down evenly over the last stretch of its way.
ARRIVAL = 96.0
# A share of the way at each end in which a change of light has not begun or is over.
CALM = 0.06

# Eight chunks: where an act takes four, a model this small loses the subject between two of them.
PERIOD = 96.0
# Radians by which an act begins early or late. Where it begins is known: swaying and bobbing in the
# middle, circling on the right. Were it anywhere, a first chunk would have to settle that from
# noise alone, and a small model shows the subject in two places.
STRAY = 0.35
CENTRE = (96.0, 42.0)
REACH = (42.0, 17.0)


@dataclass(frozen=True, slots=True)
class Journey:
    """Everything random about a clip, drawn once from its prompt and seed."""

    prompt: Prompt
    seed: int
    pattern: str
    accent: str
    # Radians at departure, pictures a period, and the path of the subject in pixels.
    phase: float
    period: float
    centre: tuple[float, float]
    reach: tuple[float, float]
    # What the noise of the scenery starts from.
    salt: int

    @classmethod
    def draw(cls, prompt: Prompt, seed: int) -> Journey:
        digest = hashlib.sha512(f"{seed}: {prompt.text}".encode("ascii")).digest()
        words = [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 64, 4)]
        rolls = [word / 2.0**32 for word in words]
        return cls(
            prompt=prompt,
            seed=seed,
            pattern=PATTERNS[words[0] % len(PATTERNS)],
            accent=ACCENTS[words[1] % len(ACCENTS)],
            phase=STRAY * (2.0 * rolls[2] - 1.0),
            period=PERIOD * (0.9 + 0.2 * rolls[3]),
            centre=(CENTRE[0] + 8.0 * (rolls[4] - 0.5), CENTRE[1] + 4.0 * (rolls[5] - 0.5)),
            reach=(REACH[0] * (0.92 + 0.16 * rolls[6]), REACH[1] * (0.92 + 0.16 * rolls[7])),
            salt=words[8] % 2**20,
        )

    @property
    def departure(self) -> float:
        """Where the camera's middle stands at departure, in pixels of the ring."""
        return (REGIONS.index(self.prompt.origin) + 0.5) * REGION_LENGTH


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of each picture ``(N, T)``, and of each clip ``(N,)``.

    ``place`` and ``speed`` are signed by the heading (right is positive), in pixels of the near
    layer; ``share`` is the share of the way covered; ``light`` runs from 0, day, to 1, night;
    ``x`` and ``y`` are the middle of the subject's coloured body in the picture.
    """

    place: Tensor
    speed: Tensor
    share: Tensor
    light: Tensor
    x: Tensor
    y: Tensor
    pattern: Tensor
    accent: Tensor


def truth(journeys: Sequence[Journey], times: Tensor) -> Truth:
    """Work out what clips show at times.

    Args:
        journeys: N clips.
        times: ``(N, T)`` pictures since departure, fractions allowed, on the device to work on.
    """
    times = times.to(torch.float32)
    if times.ndim != 2 or len(times) != len(journeys):
        raise ValueError(f"times are {tuple(times.shape)}, expected ({len(journeys)}, T)")

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=times.device)[:, None]

    prompts = [journey.prompt for journey in journeys]
    sign = column([prompt.sign for prompt in prompts])
    pace = column([SPEEDS[prompt.pace] for prompt in prompts])
    distance = column([prompt.distance for prompt in prompts])
    slowing = (distance - ARRIVAL) / pace
    # Evenly down to rest takes twice as long as the same stretch at full pace.
    left = 1.0 - ((times - slowing) * pace / (2.0 * ARRIVAL)).clamp(0.0, 1.0)
    covered = torch.minimum(times * pace, distance - ARRIVAL * left.square())
    covered = torch.where(times < slowing, times * pace, covered)
    share = (covered / distance).clamp(0.0, 1.0)
    turn = ((share - CALM) / (1.0 - 2.0 * CALM)).clamp(0.0, 1.0)
    law = torch.tensor([LIGHTS.index(prompt.light) for prompt in prompts], device=times.device)
    law = law[:, None]
    light = torch.where(law == 0, torch.zeros_like(turn), torch.where(law == 1, turn, 1.0 - turn))
    x, y = _path(journeys, times, column)
    return Truth(
        place=covered * sign,
        speed=pace * left * sign,
        share=share,
        light=light,
        x=x,
        y=y,
        pattern=_ids([PATTERNS.index(journey.pattern) for journey in journeys], times),
        accent=_ids([ACCENTS.index(journey.accent) for journey in journeys], times),
    )


def _ids(values: list[int], times: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=times.device)


def _path(
    journeys: Sequence[Journey], times: Tensor, column: Callable[[list[float]], Tensor]
) -> tuple[Tensor, Tensor]:
    """Middle of the subject at each time, in pixels."""
    period = column([journey.period for journey in journeys])
    phase = column([journey.phase for journey in journeys])
    angle = phase + times * (math.tau / period)
    act = torch.tensor(
        [ACTIONS.index(journey.prompt.action) for journey in journeys], device=times.device
    )[:, None]
    sine = angle.sin()
    # The picture's y points down: minus sine turns counter-clockwise for the one who looks.
    across = torch.where(act == 0, sine, torch.where(act == 1, 0.0, angle.cos()))
    down = torch.where(act == 0, 0.0, torch.where(act == 2, -sine, sine))
    x = column([journey.centre[0] for journey in journeys]) + across * column(
        [journey.reach[0] for journey in journeys]
    )
    y = column([journey.centre[1] for journey in journeys]) + down * column(
        [journey.reach[1] for journey in journeys]
    )
    return x, y
