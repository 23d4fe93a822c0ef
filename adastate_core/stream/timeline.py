"""Prompts along a stream, as text: one line for each change.

    0: a red circle moves left
    chunk 4 blend 3: a red circle moves right
    6.5s recache: a blue square in the fog
    1:10: a green square on a hill

A line says when its prompt begins, by chunk number (`4`, `chunk 4`) or by time (`6.5s`, `1:10`,
`1:02:03.5`), how the stream changes to it, and the prompt. Empty lines and lines that begin with #
are skipped. Where a prompt begins with a number, a space after the colon keeps it from being read
as part of a time; what can be read both ways is refused. Full-width colons and digits count as the
plain ones.

The page reads the same text in `web/js/timeline/read.js`; tests/golden/timeline_cases.json holds
what both have to make of it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from .pace import Pace

Transition = Literal["swap", "blend", "recache", "flush"]

# All of these are matched against what `_plain` makes of a line.
_HOW = r"(?:\s+(?P<how>[a-z]+)(?:\s+(?P<count>[0-9]{1,9}))?)?"
_HEAD = re.compile(
    rf"(?P<chunk>chunk\s+)?(?P<number>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?)\s*(?P<unit>s?){_HOW}"
)
_CLOCK = r"[0-9]{1,9}(?::[0-9]{2}){1,2}(?:\.[0-9]{1,9})?"
_CLOCK_LINE = re.compile(rf"\s*(?P<clock>{_CLOCK})\s*s?{_HOW}\s*:(?![0-9])")
# What could be a time, or a chunk and a prompt that begins with a number: 1:10 people, 1:5: people,
# 1:02:03:04: people; but not 0:3 people or 0:16mm film.
_DOUBTFUL = re.compile(
    r"\s*[0-9]+\s*:(?:[0-9]{2}(?!\w)|[0-9]+[:.,][0-9]|[0-9]+\s*(?:s|sec|m|min|h)?"
    r"(?:\s+(?:swap|recache)|\s+(?:blend|flush)\s+[0-9]+)?\s*:)"
)
_CHUNK_CLOCK = re.compile(rf"\s*chunk\s+{_CLOCK}\s*s?{_HOW}\s*:")
_PLAIN = str.maketrans(
    "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff0e\uff1a"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789.:abcdefghijklmnopqrstuvwxyz",
)
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
class TimelineProblem:
    """What is wrong with a line.

    Args:
        line: Number of the line, from 1; 0 for the whole timeline.
        problem: What is wrong, without a full stop.
        remedy: What to do, without a full stop.
    """

    line: int
    problem: str
    remedy: str

    @property
    def sentence(self) -> str:
        """Say it without the number of the line."""
        return f"{_capital(self.problem)}. {_capital(self.remedy)}."

    @property
    def named(self) -> str:
        """Say the problem with the number of the line, without a full stop."""
        return f"Line {self.line}: {self.problem}" if self.line else _capital(self.problem)


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
    cues, problems = read_timeline(text)
    _raise(problems)
    return cues


def read_timeline(text: str) -> tuple[list[Cue], list[TimelineProblem]]:
    r"""Read what can be read of a timeline.

    >>> cues, problems = read_timeline("0: a red circle\n4 fade: a blue square")
    >>> len(cues), problems[0].line, problems[0].sentence
    (1, 2, '"fade" is not a transition. Use swap, blend, recache or flush.')

    Returns:
        The lines that can be read, and what is wrong with the others.
    """
    cues: list[Cue] = []
    problems: list[TimelineProblem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            cues.append(_cue(number, line))
        except _LineError as error:
            problems.append(TimelineProblem(number, error.problem, error.remedy))
    if not cues and not problems:
        problems.append(
            TimelineProblem(
                0, "the timeline has no prompt", "write a line such as 0: a red circle moves left"
            )
        )
    return cues, problems


def order_problems(cues: list[Cue], pace: Pace, first: int | None = None) -> list[TimelineProblem]:
    """Return what is wrong with the order of lines.

    Args:
        cues: The timeline.
        pace: How long chunks are.
        first: Absolute number of the first chunk to be made, where it is known.
    """
    starts = [cue.chunk(pace) for cue in cues]
    problems = [
        TimelineProblem(
            cue.line,
            f"it begins with chunk {start}, and line {before.line} with chunk {earlier}",
            "let it begin later than the line above",
        )
        for cue, start, before, earlier in zip(cues[1:], starts[1:], cues, starts, strict=False)
        if start <= earlier
    ]
    if first is not None and starts and starts[0] > first:
        problems.append(
            TimelineProblem(
                cues[0].line,
                f"it begins with chunk {starts[0]}, but the first chunk to be made is {first}",
                f"add a line that begins with chunk {first}",
            )
        )
    return problems


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
        _raise(order_problems(cues, pace, first))
        return cls(cues, [cue.chunk(pace) for cue in cues])

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


class _LineError(Exception):
    """A line that cannot be read."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def _plain(line: str) -> str:
    """Return a line in lower case with plain digits and colons, each at its place."""
    return line.translate(_PLAIN)


def _cue(number: int, line: str) -> Cue:
    plain = _plain(line)
    found = _CLOCK_LINE.match(plain)
    if found is not None:
        start, in_seconds = _seconds(found["clock"]), True
        text = line[found.end() :]
    else:
        end = _head_end(plain, line)
        head, text = plain[:end].strip(), line[end + 1 :]
        found = _HEAD.fullmatch(head)
        if found is None:
            raise _LineError(
                f'"{_short(line[:end])}" is not a chunk or a time',
                "begin the line with 4, 6.5s or 1:10, and a transition if you like",
            )
        start, in_seconds = float(found["number"]), bool(found["unit"])
        if found["chunk"] and in_seconds:
            raise _both(head)
        if not in_seconds and "." in found["number"]:
            raise _LineError(
                f"chunk {found['number']} is not a whole number",
                f"write {found['number']}s if you mean seconds",
            )
    if not text.strip():
        raise _LineError("there is no prompt", "write one after the colon")
    transition, count = _transition(found["how"], found["count"])
    return Cue(number, start, in_seconds, text.strip(), transition, count)


def _head_end(plain: str, line: str) -> int:
    """Return where the prompt of a line without a clock time begins: its first colon."""
    if _CHUNK_CLOCK.match(plain):
        raise _both(line)
    if _DOUBTFUL.match(plain):
        raise _LineError(
            f'"{_short(line)}" can be read as a time or as a chunk',
            "put a colon after a time, as in 1:10: people, or a space before a prompt that begins "
            "with a number, as in 1: 10 people",
        )
    if ":" not in plain:
        raise _LineError("there is no colon", "put one between the time and the prompt")
    return plain.index(":")


def _seconds(clock: str) -> float:
    """Return the seconds of a time such as 1:10 or 1:02:03.5."""
    *before, seconds = clock.split(":")
    if float(seconds) >= 60 or (len(before) == 2 and int(before[1]) >= 60):
        raise _LineError(f"{clock} is not a time", "keep minutes and seconds below 60")
    hours, minutes = before if len(before) == 2 else (0, before[0])
    return 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds)


def _transition(how: str | None, count: str | None) -> tuple[Transition, int]:
    name = how or "swap"
    if name not in ("swap", "blend", "recache", "flush"):
        raise _LineError(f'"{name}" is not a transition', "use swap, blend, recache or flush")
    if name in _COUNTED:
        if count is None:
            raise _LineError(
                f"{name} has no number", f"write {name} 2 for 2 {_COUNTED[name]}, for example"
            )
        if not 1 <= int(count) <= _MAX_COUNT:
            raise _LineError(
                f"{name} {int(count)} is out of range", f"use 1 to {_MAX_COUNT} {_COUNTED[name]}"
            )
    elif count is not None:
        raise _LineError(f"{name} takes no number", f"write {name} alone")
    return name, int(count or 0)  # type: ignore[return-value]  # one of the four


def _both(head: str) -> _LineError:
    return _LineError(f'"{_short(head)}" is a chunk and a time at once', "give one of them")


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 40 else words[:37] + "..."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _raise(problems: list[TimelineProblem]) -> None:
    """Name all problems in one error, whose remedy is that of the last."""
    if problems:
        *others, last = problems
        said = [f"{other.named}. {_capital(other.remedy)}." for other in others]
        raise ConfigError(
            "timeline",
            problem=" ".join([*said, last.named]),
            seen=[f"line {each.line}: {each.problem}" for each in problems],
            expected="lines such as '0: a red circle moves left'",
            remedy=last.remedy,
        )
