"""Tokens of a block: which are the video's, and where in time the model puts its frames."""

from __future__ import annotations

import pytest
import torch

from adastate_core.attention.geometry import (
    AttentionGeometry,
    TextPlace,
    merge_text,
    split_text,
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
    ("place", "video", "text"),
    [("none", [0, 1, 2, 3, 4], None), ("prefix", [2, 3, 4], [0, 1]), ("suffix", [0, 1, 2], [3, 4])],
)
def test_text_is_split_off_and_put_back(
    place: TextPlace, video: list[int], text: list[int] | None
) -> None:
    found_video, found_text = split_text(X, place, 3)
    assert torch.equal(found_video, X[:, video])
    assert found_text is None if text is None else torch.equal(found_text, X[:, text])
    assert torch.equal(merge_text(found_video, found_text, place), X)


def test_a_block_without_text_has_none() -> None:
    for place in ("prefix", "suffix"):
        video, text = split_text(X, place, 5)
        assert torch.equal(video, X)
        assert text is not None
        assert text.shape[1] == 0
