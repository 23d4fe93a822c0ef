"""Owns the prompt grammar of the demo world and the split into seen and unseen prompts.

It says what a clip shows; how that is drawn belongs to :mod:`training.world`.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, fields
from functools import lru_cache

COLOURS = ("red", "yellow", "green", "cyan", "blue", "pink")
SHAPES = ("circle", "square", "triangle", "star")
DIRECTIONS = ("left", "right", "up", "down")
PANS = ("left", "right", "still")
TINTS = ("blue", "green", "golden", "violet")
SCENERIES = ("hills", "mountains", "city")

# A shape must stand out from its scenery, for the eye and for the colour metric alike.
CLASHES = frozenset(
    {
        ("blue", "blue"),
        ("cyan", "blue"),
        ("green", "green"),
        ("yellow", "golden"),
        ("pink", "violet"),
    }
)
UNSEEN_PER_MILLE = 60


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one clip shows: a coloured shape moving over scenery under a panning camera."""

    colour: str
    shape: str
    direction: str
    pan: str
    tint: str
    scenery: str

    def __post_init__(self) -> None:
        choices = (COLOURS, SHAPES, DIRECTIONS, PANS, TINTS, SCENERIES)
        for field, allowed in zip(fields(self), choices, strict=True):
            value = getattr(self, field.name)
            if value not in allowed:
                raise ValueError(f"{field.name} is {value!r}, expected one of {allowed}")

    @property
    def text(self) -> str:
        camera = "camera still" if self.pan == "still" else f"camera pans {self.pan}"
        return (
            f"{self.colour} {self.shape} moving {self.direction}, {camera}, "
            f"{self.tint} {self.scenery}"
        )

    @property
    def unseen(self) -> bool:
        """Whether the prompt is held out of training; a fixed hash, so it never changes."""
        digest = hashlib.sha256(self.text.encode("ascii")).digest()
        return int.from_bytes(digest[:4], "big") % 1000 < UNSEEN_PER_MILLE


def parse_prompt(text: str) -> Prompt:
    """Read a prompt back from its text.

    Raises:
        ValueError: The text does not follow the grammar.
    """
    words = text.replace(",", "").split()
    try:
        pan = "still" if words[5] == "still" else words[6]
        prompt = Prompt(words[0], words[1], words[3], pan, words[-2], words[-1])
    except IndexError as error:
        raise ValueError(f"prompt {text!r} does not follow the grammar") from error
    if prompt.text != text:
        raise ValueError(f"prompt {text!r} does not follow the grammar, nearest is {prompt.text!r}")
    return prompt


@lru_cache(maxsize=1)
def all_prompts() -> tuple[Prompt, ...]:
    grid = itertools.product(COLOURS, SHAPES, DIRECTIONS, PANS, TINTS, SCENERIES)
    return tuple(Prompt(*words) for words in grid if (words[0], words[4]) not in CLASHES)


@lru_cache(maxsize=2)
def split(unseen: bool) -> tuple[Prompt, ...]:
    """The unseen or the seen prompts, in grammar order."""
    return tuple(prompt for prompt in all_prompts() if prompt.unseen is unseen)
