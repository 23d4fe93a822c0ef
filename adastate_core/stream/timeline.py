"""Prompts along a stream, as text: one line for each change.

    0: a red circle moves left
    chunk 4 blend 3: a red circle moves right
    6.5s recache: a blue square in the fog
    1:10: a green square on a hill

A line says when its prompt begins, by chunk number (`4`, `chunk 4`) or by time (`6.5s`, `1:10`,
`1:02:03.5`), how the stream changes to it, and the prompt. Empty lines and lines that begin with #
are skipped. Where a prompt begins with a number, a space after the colon keeps it from being read
as part of a time; what can be read both ways is refused.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal

from ..errors import ConfigError
from .pace import Pace

Transition = Literal["swap", "blend", "recache", "flush"]

_HOW = r"(?:\s+(?P<how>[a-z]+)(?:\s+(?P<count>\d{1,9}))?)?"
_HEAD = re.compile(
    rf"(?P<chunk>chunk\s+)?(?P<number>\d{{1,9}}(?:\.\d{{1,9}})?)\s*(?P<unit>s?){_HOW}",
    re.IGNORECASE,
)
_CLOCK = r"\d{1,9}(?::\d\d){1,2}(?:\.\d{1,9})?"
_CLOCK_LINE = re.compile(
    rf"\s*(?P<clock>{_CLOCK})\s*s?{_HOW}\s*:(?!\d)(?P<text>.*)", re.IGNORECASE | re.DOTALL
)
# What could be a time, or a chunk and a prompt that begins with a number: 1:10 people, 1:5: people,
# 1:02:03:04: people; but not 0:3 people or 0:16mm film.
_DOUBTFUL = re.compile(
    r"\s*\d+\s*:(?:\d\d(?!\w)|\d+[:.,]\d|\d+\s*(?:s|sec|m|min|h)?(?:\s+(?:swap|recache)|\s+"
    r"(?:blend|flush)\s+\d+)?\s*:)",
    re.IGNORECASE,
)
_CHUNK_CLOCK = re.compile(rf"\s*chunk\s+{_CLOCK}\s*s?{_HOW}\s*:", re.IGNORECASE)
_COUNTED: dict[str, str] = {"blend": "chunks", "flush": "frames"}
_MAX_COUNT = 64


@dataclass(frozen=True, slots=True)
class Cue:
    """The beginning of a prompt.

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
    """The prompt of one chunk.

    Args:
        chunk: Absolute chunk number.
        text: The prompt.
        before: The prompt that is blended out, or None.
        share: Share of `text`.
        transition: What to do to the cache before this chunk; `swap` is nothing.
        count: Frames of a flush.
    """

    chunk: int
    text: str
    before: str | None = None
    share: float = 1.0
    transition: Transition = "swap"
    count: int = 0


def parse_timeline(text: str) -> list[Cue]:
    r"""Read a timeline.

    >>> for cue in parse_timeline("0: a red circle\nchunk 4 blend 3: a blue square"):
    ...     print(cue.start, cue.transition, cue.text)
    0.0 swap a red circle
    4.0 blend a blue square

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


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """The prompts of a run, which takes no more memory the longer it is.

    Args:
        cues: The lines of the timeline.
        starts: The chunk that each of them begins with.
    """

    cues: list[Cue]
    starts: list[int]

    @classmethod
    def of(cls, cues: list[Cue], pace: Pace, first: int) -> PromptPlan:
        """Plan the prompts from a chunk on.

        Args:
            cues: The timeline.
            pace: How long chunks are.
            first: Absolute number of the first chunk.

        Raises:
            ConfigError: If lines are out of order or begin with one chunk, or none has begun by
                the first one; names the lines.
        """
        starts = [cue.chunk(pace) for cue in cues]
        problems = [
            f"line {cue.line}: begins with chunk {start}, and line {before.line} with chunk "
            f"{earlier}; each has to begin later than the one above"
            for cue, start, before, earlier in zip(cues[1:], starts[1:], cues, starts, strict=False)
            if start <= earlier
        ]
        if starts[0] > first:
            problems.append(
                f"line {cues[0].line}: begins with chunk {starts[0]}, but the first chunk to be "
                f"made is {first}"
            )
        _raise(problems)
        return cls(cues, starts)

    def at(self, chunk: int) -> ChunkPrompt:
        """Return the prompt of a chunk."""
        current = bisect_right(self.starts, chunk) - 1
        cue, into = self.cues[current], chunk - self.starts[current]
        if cue.transition == "blend" and current > 0 and into + 1 < cue.count:
            before = self.cues[current - 1].text
            return ChunkPrompt(chunk, cue.text, before, (into + 1) / cue.count)
        if into == 0 and cue.transition in ("recache", "flush"):
            return ChunkPrompt(chunk, cue.text, transition=cue.transition, count=cue.count)
        return ChunkPrompt(chunk, cue.text)

    def texts(self, first: int, chunks: int) -> list[str]:
        """Return the prompts of some chunks, each once, in order."""
        begun = bisect_right(self.starts, first) - 1
        begun -= self.at(first).before is not None
        used = self.cues[begun : bisect_right(self.starts, first + chunks - 1)]
        return list(dict.fromkeys(cue.text for cue in used))


def plan_prompts(cues: list[Cue], pace: Pace, first: int, chunks: int) -> list[ChunkPrompt]:
    """Return the prompt of every chunk of a run.

    Args:
        cues: The timeline.
        pace: How long chunks are.
        first: Absolute number of the first chunk.
        chunks: How many.

    Raises:
        ConfigError: As `PromptPlan.of` does.
    """
    plan = PromptPlan.of(cues, pace, first)
    return [plan.at(chunk) for chunk in range(first, first + chunks)]


def _cue(number: int, line: str) -> Cue:
    clock = _CLOCK_LINE.fullmatch(line)
    if clock is not None:
        start, in_seconds = _seconds(clock["clock"]), True
        how, count, text = clock["how"], clock["count"], clock["text"]
    else:
        head, text = _split(line)
        found = _HEAD.fullmatch(head)
        if found is None:
            raise ValueError(
                f"got '{head}', expected a chunk such as 4, or a time such as 6.5s or 1:10, "
                "optionally swap, blend 3, recache or flush 2 after it"
            )
        start, in_seconds = float(found["number"]), bool(found["unit"])
        how, count = found["how"], found["count"]
        if found["chunk"] and in_seconds:
            raise ValueError(f"got '{head}', expected a chunk or a time, not both")
        if not in_seconds and "." in found["number"]:
            raise ValueError(
                f"got chunk {found['number']}, expected a whole number, or seconds as 6.5s"
            )
    if not text.strip():
        raise ValueError("no prompt after the colon")
    transition, frames = _transition(how, count)
    return Cue(number, start, in_seconds, text.strip(), transition, frames)


def _split(line: str) -> tuple[str, str]:
    """Split a line without a clock time at its first colon."""
    shown = shorten(line, 40, placeholder="...")
    if _CHUNK_CLOCK.match(line):
        raise ValueError(f"got '{shown}', expected a chunk or a time, not both")
    if _DOUBTFUL.match(line):
        raise ValueError(
            f"got '{shown}', expected a time such as 1:05 or 1:02:03.5 and a colon after it, or a "
            "space between the colon and a prompt that begins with a number"
        )
    head, colon, text = line.partition(":")
    if not colon:
        raise ValueError("no colon between the time and the prompt")
    return head.strip(), text


def _seconds(clock: str) -> float:
    """Return the seconds of a time such as 1:10 or 1:02:03.5."""
    *before, seconds = clock.split(":")
    if float(seconds) >= 60 or (len(before) == 2 and int(before[1]) >= 60):
        raise ValueError(f"got {clock}, expected minutes and seconds below 60")
    hours, minutes = before if len(before) == 2 else (0, before[0])
    return 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds)


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
