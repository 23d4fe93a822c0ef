"""The error tree of the core: every message says what, seen, expected and what to change."""

from __future__ import annotations


class AdaStateError(ValueError):
    """Bad input, told in one sentence.

    >>> print(AdaStateError("fps", seen=0, expected="1 or more", remedy="raise fps"))
    fps: got 0, expected 1 or more; raise fps.

    Args:
        what: The thing that is wrong.
        seen: The value that was given.
        expected: The values that would have been right.
        remedy: The node input or file to change.
    """

    def __init__(self, what: str, *, seen: object, expected: object, remedy: str) -> None:
        self.what = what
        self.seen = seen
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{what}: got {seen}, expected {expected}; {remedy}.")


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
