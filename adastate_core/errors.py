"""The error tree of the core: every message says what is wrong and what to change.

>>> print(AdaStateError("fps", problem="fps is 0", seen=0, expected="1 or more", remedy="raise it"))
Fps is 0. Raise it.

ComfyUI shows the module of an error's class before its message: these say `AdaState` there.
"""

from __future__ import annotations


class AdaStateError(ValueError):
    """Bad input, told in one sentence and one remedy.

    Args:
        what: The thing that is wrong, for programs.
        problem: What is wrong, in an artist's words and without a full stop.
        seen: The value that was given.
        expected: The values that would have been right.
        remedy: The node input or file to change, without a full stop.
    """

    __module__ = "AdaState"

    def __init__(
        self, what: str, *, problem: str, seen: object, expected: object, remedy: str
    ) -> None:
        self.what = what
        self.problem = problem
        self.seen = seen
        self.expected = expected
        self.remedy = remedy
        super().__init__(_sentences(problem, remedy))


class ConfigError(AdaStateError):
    """A setting is out of range or contradicts another one."""

    __module__ = "AdaState"


class LayoutError(AdaStateError):
    """A tensor or a block of frames has the wrong shape."""

    __module__ = "AdaState"


class StateMismatchError(AdaStateError):
    """A stream state belongs to another family, latent size or set of base weights."""

    __module__ = "AdaState"


class StateFileError(AdaStateError):
    """A state file is damaged, foreign or of a newer format."""

    __module__ = "AdaState"


class UnsupportedFamilyError(AdaStateError):
    """The loaded model is of no family the core can stream."""

    __module__ = "AdaState"


class NonFiniteError(AdaStateError):
    """A chunk came out of the sampler with NaN or infinite values."""

    __module__ = "AdaState"


class VideoFileError(AdaStateError):
    """A video cannot be encoded or written."""

    __module__ = "AdaState"


_NAMES = ("cfg",)
"""Inputs on screen that are written small where a sentence begins with them."""


def _sentences(problem: str, remedy: str) -> str:
    return f"{_capital(problem)}. {_capital(remedy)}."


def _capital(text: str) -> str:
    """Begin a sentence, unless it begins with the name of an input or a file."""
    first = text.split(" ", 1)[0]
    if first in _NAMES or "_" in first or "." in first:
        return text
    return text[:1].upper() + text[1:]
