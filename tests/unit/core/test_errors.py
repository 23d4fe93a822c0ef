"""Errors: one sentence that says what, seen, expected and what to change."""

from __future__ import annotations

import pytest

from adastate_core import errors
from adastate_core.errors import AdaStateError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AdaStateError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_one_sentence_and_keeps_its_parts(kind: type[AdaStateError]) -> None:
    error = kind("chunk_frames", seen=0, expected="1 to 64", remedy="change it on Apply AdaState")
    assert str(error) == "chunk_frames: got 0, expected 1 to 64; change it on Apply AdaState."
    assert (error.what, error.seen, error.expected) == ("chunk_frames", 0, "1 to 64")
    assert error.remedy == "change it on Apply AdaState"


def test_all_are_told_apart_and_caught_together() -> None:
    assert len(KINDS) == 8
    for kind in KINDS:
        assert issubclass(kind, ValueError)
        others = [other for other in KINDS if other not in (kind, AdaStateError)]
        assert not any(issubclass(kind, other) for other in others)
