"""The error tree of the core: every message says what, seen, expected and what to change."""

from __future__ import annotations


class AdaStateError(ValueError):
    """Bad input, told in one sentence and one remedy.

    >>> print(
    ...     AdaStateError(
    ...         "fps", problem="fps is 0", seen=0, expected="1 or more", remedy="raise it"
    ...     )
    ... )
    Fps is 0. Raise it.

    Args:
        what: The thing that is wrong, for programs.
        problem: What is wrong, in an artist's words and without a full stop.
        seen: The value that was given.
        expected: The values that would have been right.
        remedy: The node input or file to change, without a full stop.
    """

    def __init__(
        self, what: str, *, seen: object, expected: object, remedy: str, problem: str = ""
    ) -> None:
        self.what = what
        self.problem = problem or f"{what}: got {seen}, expected {expected}"
        self.seen = seen
        self.expected = expected
        self.remedy = remedy
        super().__init__(
            _sentences(self.problem, remedy) if problem else f"{self.problem}; {remedy}."
        )


class ConfigError(AdaStateError):
    """A setting is out of range or contradicts another one."""


class LayoutError(AdaStateError):
    """A tensor or a block of frames has the wrong shape."""


class StateMismatchError(AdaStateError):
    """A stream state belongs to another family, latent size or set of base weights."""


class StateFileError(AdaStateError):
    """A state file is damaged, foreign or of a newer format."""


class UnsupportedFamilyError(AdaStateError):
    """The loaded model is of no family the core can stream."""


class NonFiniteError(AdaStateError):
    """A chunk came out of the sampler with NaN or infinite values."""


class VideoFileError(AdaStateError):
    """A video cannot be encoded or written."""


def _sentences(problem: str, remedy: str) -> str:
    return f"{_capital(problem)}. {_capital(remedy)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
