"""Owns the prompt grammar of the panorama and the split into seen and unseen prompts.

It says what a clip shows; what is random about it belongs to :mod:`training.panorama.journey`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass, fields
from functools import lru_cache

COLOURS = ("red", "orange", "yellow", "green", "blue", "violet")
SUBJECTS = ("balloon", "kite", "airship", "lantern")
ACTIONS = ("swaying", "bobbing", "circling left", "circling right")
HEADINGS = ("left", "right")
PACES = ("slow", "steady", "quick")
# In the order of the ring: heading right goes forward, and mountains lead on to the coast.
REGIONS = ("coast", "hills", "forest", "town", "desert", "mountains")
LIGHTS = ("by day", "as night falls", "as day breaks")
# What a prompt says, part by part, as `Prompt` has it.
CHOICES = (COLOURS, SUBJECTS, ACTIONS, HEADINGS, PACES, REGIONS, REGIONS, LIGHTS)

# Pixels of the near layer from the middle of one region to the middle of the next.
REGION_LENGTH = 480
# Every way ends within 60 chunks and lasts at least 16: hops from origin to destination by pace.
HOPS = {"slow": (1, 2), "steady": (1, 3), "quick": (2, 4)}
UNSEEN_PER_MILLE = 60

GRAMMAR = re.compile(
    r"an? (?P<colour>{}) (?P<subject>{}) (?P<action>{}), travelling (?P<heading>{}) "
    r"at a (?P<pace>{}) pace from the (?P<origin>{}) to the (?P<destination>{}), "
    r"(?P<light>{})".format(*("|".join(words) for words in CHOICES))
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one clip shows: a subject that acts while the camera travels to another region."""

    colour: str
    subject: str
    action: str
    heading: str
    pace: str
    origin: str
    destination: str
    light: str

    def __post_init__(self) -> None:
        for field, allowed in zip(fields(self), CHOICES, strict=True):
            value = getattr(self, field.name)
            if value not in allowed:
                raise ValueError(f"{field.name} is {value!r}, expected one of {allowed}")
        least, most = HOPS[self.pace]
        if not least <= self.hops <= most:
            raise ValueError(
                f"{self.origin} to {self.destination} going {self.heading} is {self.hops} regions, "
                f"expected {least} to {most} at a {self.pace} pace"
            )

    @property
    def text(self) -> str:
        return sentence(
            self.colour,
            self.subject,
            self.action,
            self.heading,
            self.pace,
            self.origin,
            self.destination,
            self.light,
        )

    @property
    def sign(self) -> int:
        """1 for a camera that goes forward in the ring (right), -1 for one that goes back."""
        return 1 if self.heading == "right" else -1

    @property
    def hops(self) -> int:
        """How many regions the way leads on."""
        ahead = REGIONS.index(self.destination) - REGIONS.index(self.origin)
        return (ahead * self.sign) % len(REGIONS)

    @property
    def distance(self) -> int:
        """Length of the way in pixels of the near layer, never negative."""
        return self.hops * REGION_LENGTH

    @property
    def unseen(self) -> bool:
        """Whether the prompt is held out of training; a fixed hash, so it never changes."""
        digest = hashlib.sha256(self.text.encode("ascii")).digest()
        return int.from_bytes(digest[:4], "big") % 1000 < UNSEEN_PER_MILLE


def sentence(
    colour: str,
    subject: str,
    action: str,
    heading: str,
    pace: str,
    origin: str,
    destination: str,
    light: str,
) -> str:
    """Put the parts of a prompt into words, also those of a way that no clip goes."""
    article = "an" if colour == "orange" else "a"
    return (
        f"{article} {colour} {subject} {action}, travelling {heading} at a {pace} pace "
        f"from the {origin} to the {destination}, {light}"
    )


def parse_prompt(text: str) -> Prompt:
    """Read a prompt back from its text.

    Raises:
        ValueError: The text does not follow the grammar.
    """
    found = GRAMMAR.fullmatch(text)
    if found is None:
        raise ValueError(f"prompt {text!r} does not follow the grammar")
    prompt = Prompt(**found.groupdict())
    if prompt.text != text:
        raise ValueError(f"prompt {text!r} does not follow the grammar, nearest is {prompt.text!r}")
    return prompt


@lru_cache(maxsize=1)
def all_prompts() -> tuple[Prompt, ...]:
    ways = [
        (heading, pace, origin, REGIONS[(REGIONS.index(origin) + step * hops) % len(REGIONS)])
        for heading, step in (("left", -1), ("right", 1))
        for pace in PACES
        for origin in REGIONS
        for hops in range(HOPS[pace][0], HOPS[pace][1] + 1)
    ]
    grid = itertools.product(COLOURS, SUBJECTS, ACTIONS, ways, LIGHTS)
    return tuple(
        Prompt(colour, subject, action, *way, light) for colour, subject, action, way, light in grid
    )


@lru_cache(maxsize=2)
def split(unseen: bool) -> tuple[Prompt, ...]:
    """The unseen or the seen prompts, in grammar order."""
    return tuple(prompt for prompt in all_prompts() if prompt.unseen is unseen)
