"""What does not fit a stream is refused, and the sentence says by what."""

from __future__ import annotations

import pytest

from adastate_core.errors import LayoutError, StateMismatchError
from adastate_core.fingerprint import ModelFingerprint
from adastate_core.stream.fitting import require_model, require_size

STREAM = (1, 16, 60, 104)


@pytest.mark.parametrize("frames", [1, 3, 21])
def test_any_number_of_frames_fits(frames: int) -> None:
    require_size((1, 16, frames, 60, 104), STREAM)


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        ((1, 16, 60, 104), "the given latent is no video"),
        ((1, 48, 3, 60, 104), "the given latent has 48 channels; this stream has 16"),
        ((2, 16, 3, 60, 104), "the given latent holds 2 videos; this stream makes 1"),
        ((1, 16, 3, 104, 60), "the given latent is 60 x 104; this stream is 104 x 60"),
    ],
)
def test_another_size_is_refused(seen: tuple[int, ...], problem: str) -> None:
    with pytest.raises(LayoutError) as refused:
        require_size(seen, STREAM)
    assert refused.value.problem == problem
    assert refused.value.seen == seen


def test_the_model_that_made_a_stream_fits_and_any_before_the_first_chunk() -> None:
    model = ModelFingerprint("wan2.1", 16, "a" * 32)
    require_model(model, None, 16)
    require_model(model, model, 16)


def test_another_model_is_refused() -> None:
    model, other = (ModelFingerprint("wan2.1", 16, letter * 32) for letter in "ab")
    with pytest.raises(StateMismatchError, match="made with another model"):
        require_model(model, other, 16)
    with pytest.raises(StateMismatchError, match=r"it has 48 channels, this model 16\. "):
        require_model(model, None, 48)
