"""Given latents fit the clock of the model, once that is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from adastate_core.clock import StreamClock
from adastate_core.errors import StateMismatchError
from adastate_core.stream.state import StreamState
from adastate_core.stream.timing import fitted, with_clock

CLOCK = StreamClock(
    tuple(Fraction(5, 3) * pictures for pictures in (0, 1, 5, 9, 13)), Fraction(85, 3)
)
OTHER = StreamClock((Fraction(0),), Fraction(25, 3))
FRESH = StreamState((1, 2, 1, 1), sound_shape=(3, 2))


def clip(frames: int) -> Tensor:
    return torch.arange(float(frames)).view(1, 1, frames, 1, 1).expand(1, 2, -1, 1, 1)


def heard(ticks: int) -> Tensor:
    return torch.arange(float(ticks)).view(1, 1, ticks, 1).expand(1, 3, -1, 2)


@pytest.mark.parametrize(("frames", "kept"), [(1, 1), (5, 5), (7, 5), (12, 10), (3, 3)])
def test_a_clip_ends_with_a_whole_pattern(frames: int, kept: int) -> None:
    state = with_clock(FRESH.start_with(clip(frames), heard(200)), CLOCK)
    (event,) = state.events
    assert event.content[0, 0, :, 0, 0].tolist() == list(range(kept))
    assert event.sound.shape[2] == CLOCK.ticks_of(0, kept)
    assert event.sound[0, 0, :, 0].tolist() == list(range(event.sound.shape[2]))
    assert state.next_frame % 5 == 0
    assert state.next_frame - kept < 5


def test_sound_that_is_too_short_goes_on_as_it_ends() -> None:
    assert fitted(heard(3), 5)[0, 0, :, 0].tolist() == [0.0, 1.0, 2.0, 2.0, 2.0]
    assert fitted(heard(3), 2)[0, 0, :, 0].tolist() == [0.0, 1.0]
    (event,) = with_clock(FRESH.start_with(clip(5), heard(20)), CLOCK).events
    assert event.sound.shape[2] == 29


def test_a_clip_without_sound_stays_without() -> None:
    (event,) = with_clock(FRESH.start_with(clip(5)), CLOCK).events
    assert event.sound is None


def test_a_model_without_a_clock_changes_nothing() -> None:
    state = FRESH.start_with(clip(7))
    assert with_clock(state, None) is state
    known = replace(state, clock=CLOCK)
    assert with_clock(known, CLOCK) is known


def test_another_frame_rate_in_the_middle_is_refused() -> None:
    with pytest.raises(StateMismatchError, match="was made at another frame rate"):
        with_clock(replace(FRESH, clock=CLOCK), OTHER)
