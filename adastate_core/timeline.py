"""Prompts along a stream, as text: one line for each change.

    0: a red circle moves left
    chunk 4 blend 3: a red circle moves right
    6.5s recache: a blue square in the fog

A line says when its prompt begins, by chunk number (`4`, `chunk 4`) or by time (`6.5s`), how the
stream gets there, and the prompt. Empty lines and lines that begin with # do not count.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from .errors import ConfigError

Transition = Literal["swap", "blend", "recache", "flush"]

_HEAD = re.compile(
    r"(?:chunk\s+)?(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s?)(?:\s+(?P<how>[a-z]+)(?:\s+(?P<count>\d+))?)?",
    re.IGNORECASE,
)
_COUNTED: dict[str, str] = {"blend": "chunks", "flush": "frames"}
_MAX_COUNT = 64


@dataclass(frozen=True, slots=True)
class Pace:
    """Know how long chunks are.

    Args:
        chunk_frames: Content latent frames of a chunk (F).
        time_stride: Video frames of one latent frame after the first (s).
        fps: Video frames per second.
    """

    chunk_frames: int
    time_stride: int
    fps: float

    def chunk_at(self, seconds: float) -> int:
        """Return the chunk of a moment: chunk 0 has s (F - 1) + 1 frames, later ones s F."""
        frame = math.floor(seconds * self.fps + 1e-6)
        first = self.time_stride * (self.chunk_frames - 1) + 1
        if frame < first:
            return 0
        return 1 + (frame - first) // (self.time_stride * self.chunk_frames)


@dataclass(frozen=True, slots=True)
class Cue:
    """Begin a prompt.

    Args:
        line: Number of its line, from 1.
        start: Chunk, or seconds.
        in_seconds: Which of the two.
        text: The prompt.
        transition: `swap` changes the text alone, `blend` mixes it in over `count` chunks,
            `recache` commits anchor and window again under it, `flush` keeps the anchor and the
            newest `count` frames.
        count: Chunks of a blend, frames of a flush, else 0.
    """

    line: int
    start: float
    in_seconds: bool
    text: str
    transition: Transition = "swap"
    count: int = 0

    def chunk(self, pace: Pace) -> int:
        """Return the chunk it begins with."""
        return pace.chunk_at(self.start) if self.in_seconds else int(self.start)


@dataclass(frozen=True, slots=True)
class ChunkPrompt:
    """Say what one chunk is made under.

    Args:
        chunk: Absolute chunk number.
        text: The prompt.
        before: The prompt that still has a part in it, or None.
        share: Share of `text`.
        transition: What to do to the memory before this chunk: `swap` for nothing.
        count: Frames of a flush.
    """

    chunk: int
    text: str
    before: str | None = None
    share: float = 1.0
    transition: Transition = "swap"
    count: int = 0


def parse_timeline(text: str) -> list[Cue]:
    """Read a timeline.

    Raises:
        ConfigError: If a line cannot be read; names every such line by number.
    """
    cues: list[Cue] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            cues.append(_cue(number, line))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if not cues and not problems:
        problems.append("no line with a prompt")
    _raise(problems)
    return cues


def plan_prompts(cues: list[Cue], pace: Pace, first: int, chunks: int) -> list[ChunkPrompt]:
    """Return the prompt of every chunk of a run.

    Args:
        cues: The timeline.
        pace: How long chunks are.
        first: Absolute number of the first chunk.
        chunks: How many.

    Raises:
        ConfigError: If lines are out of order or begin with one chunk, or none has begun by the
            first one; names the lines.
    """
    starts = [cue.chunk(pace) for cue in cues]
    problems = [
        f"line {cue.line}: begins with chunk {start}, and line {before.line} with chunk {earlier}; "
        "each has to begin later than the one above"
        for cue, start, before, earlier in zip(cues[1:], starts[1:], cues, starts, strict=False)
        if start <= earlier
    ]
    if starts[0] > first:
        problems.append(
            f"line {cues[0].line}: begins with chunk {starts[0]}, but the first chunk to be made "
            f"is {first}"
        )
    _raise(problems)
    return [_prompt(chunk, cues, starts) for chunk in range(first, first + chunks)]


def _prompt(chunk: int, cues: list[Cue], starts: list[int]) -> ChunkPrompt:
    current = max(i for i, start in enumerate(starts) if start <= chunk)
    cue, into = cues[current], chunk - starts[current]
    if cue.transition == "blend" and current > 0 and into + 1 < cue.count:
        return ChunkPrompt(chunk, cue.text, cues[current - 1].text, (into + 1) / cue.count)
    if into == 0 and cue.transition in ("recache", "flush"):
        return ChunkPrompt(chunk, cue.text, transition=cue.transition, count=cue.count)
    return ChunkPrompt(chunk, cue.text)


def _cue(number: int, line: str) -> Cue:
    head, colon, text = line.partition(":")
    if not colon:
        raise ValueError("no colon between the time and the prompt")
    if not text.strip():
        raise ValueError("no prompt after the colon")
    found = _HEAD.fullmatch(head.strip())
    if found is None:
        raise ValueError(
            f"got '{head.strip()}', expected a chunk such as 4, or a time such as 6.5s, and after "
            "it swap, blend 3, recache or flush 2 if you like"
        )
    in_seconds = bool(found["unit"])
    if not in_seconds and "." in found["number"]:
        raise ValueError(
            f"got chunk {found['number']}, expected a whole number, or seconds as 6.5s"
        )
    transition, count = _transition(found["how"], found["count"])
    return Cue(number, float(found["number"]), in_seconds, text.strip(), transition, count)


def _transition(how: str | None, count: str | None) -> tuple[Transition, int]:
    name = (how or "swap").lower()
    if name not in ("swap", "blend", "recache", "flush"):
        raise ValueError(f"got '{how}', expected swap, blend, recache or flush")
    if name in _COUNTED:
        if count is None:
            raise ValueError(f"{name} needs a number of {_COUNTED[name]}, such as {name} 2")
        if not 1 <= int(count) <= _MAX_COUNT:
            raise ValueError(f"got {name} {count}, expected 1 to {_MAX_COUNT} {_COUNTED[name]}")
    elif count is not None:
        raise ValueError(f"{name} takes no number, got {count}")
    return name, int(count or 0)  # type: ignore[return-value]  # one of the four


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError(
            "timeline",
            seen="; ".join(problems),
            expected="lines such as '0: a red circle moves left'",
            remedy="correct the timeline of Stream Timeline",
        )
