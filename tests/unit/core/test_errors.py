"""Errors: one sentence that says what is wrong, and one that says what to change."""

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
    error = kind(
        "size",
        problem="the picture is too small",
        seen=0,
        expected="1 to 64",
        remedy="change it on Apply AdaState",
    )
    assert str(error) == "The picture is too small. Change it on Apply AdaState."
    assert (error.what, error.seen, error.expected) == ("size", 0, "1 to 64")
    assert (error.problem, error.remedy) == (
        "the picture is too small",
        "change it on Apply AdaState",
    )


@pytest.mark.parametrize("problem", ["cfg above 1 needs a prompt", "chunk_frames is 0"])
def test_what_an_artist_sees_on_a_node_keeps_its_spelling(problem: str) -> None:
    error = AdaStateError("x", problem=problem, seen=0, expected=1, remedy="raise it")
    assert str(error) == f"{problem}. Raise it."


def test_the_page_shows_no_path_before_the_sentence() -> None:
    """ComfyUI puts the module of the class before the message."""
    assert {kind.__module__ for kind in KINDS} == {"AdaState"}


def test_all_are_told_apart_and_caught_together() -> None:
    assert len(KINDS) == 8
    for kind in KINDS:
        assert issubclass(kind, ValueError)
        others = [other for other in KINDS if other not in (kind, AdaStateError)]
        assert not any(issubclass(kind, other) for other in others)
