"""Tokens of a block: which are the video's, and where in time the model puts its frames."""

from __future__ import annotations

import pytest
import torch

from adastate_core.attention.geometry import (
    AttentionGeometry,
    TextPlace,
    video_part,
)
from adastate_core.attention.layers import AttentionCalls
from adastate_core.attention.rope import TemporalRope


def geometry(first_index: float) -> AttentionGeometry:
    return AttentionGeometry(
        2, 6, 3, TemporalRope(((1.0,),)), AttentionCalls(), "none", True, first_index
    )


def test_frames_are_numbered_from_the_origin() -> None:
    assert geometry(0.0).native(0, 4) == (0, 1, 2, 3)
    assert geometry(0.0).native(-2, 3) == (-2, -1, 0)
    assert geometry(0.0).native(5, 0) == ()


def test_a_first_frame_with_a_place_of_its_own() -> None:
    assert geometry(0.875).native(0, 4) == (0.875, 1, 2, 3)
    assert geometry(0.4375).native(0, 1) == (0.4375,)


X = torch.arange(2 * 5 * 1 * 2.0).reshape(2, 5, 1, 2)


@pytest.mark.parametrize(
    ("place", "video"), [("none", [0, 1, 2, 3, 4]), ("prefix", [2, 3, 4]), ("suffix", [0, 1, 2])]
)
def test_the_video_is_told_from_the_text(place: TextPlace, video: list[int]) -> None:
    found = video_part(X, place, 5 if place == "none" else 3)
    assert torch.equal(found, X[:, video])
    assert found.untyped_storage().data_ptr() == X.untyped_storage().data_ptr()


def test_a_block_without_text_is_all_video() -> None:
    for place in ("prefix", "suffix"):
        assert torch.equal(video_part(X, place, 5), X)
