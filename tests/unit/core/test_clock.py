"""Latent frames and the latents of sound that belong to them, in whole fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from adastate_core.clock import StreamClock
from adastate_core.families.minimax import MiniMaxH3Family

H3 = StreamClock(tuple(Fraction(5, 3) * pictures for pictures in (0, 1, 5, 9, 13)), Fraction(85, 3))
EVEN = StreamClock((Fraction(0),), Fraction(8), sound_at=Fraction(11, 4))
"""Frames of 8 ticks, whose sound is placed 2.75 ticks behind them."""


def test_frames_of_a_pattern_stand_for_different_lengths() -> None:
    starts = [H3.start(frame) for frame in range(7)]
    assert starts == [Fraction(5, 3) * n for n in (0, 1, 5, 9, 13, 17, 18)]
    assert H3.start(-5) == -Fraction(85, 3)
    assert H3.start(-1) == Fraction(5, 3) * -4
    assert (H3.pattern, EVEN.pattern) == (5, 1)


def test_places_between_two_frames_are_in_proportion() -> None:
    assert H3.place(1) == pytest.approx(5 / 3)
    assert H3.place(1.5) == pytest.approx(5)
    assert EVEN.place(-0.25) == -2.0


@pytest.mark.parametrize("clock", [H3, EVEN])
def test_every_tick_belongs_to_the_frame_in_which_it_begins(clock: StreamClock) -> None:
    first = [clock.first_tick(frame) for frame in range(301)]
    assert first[0] == 0
    for frame, (begin, end) in enumerate(pairwise(first)):
        assert clock.ticks(frame) == end - begin
        for tick in range(begin, end):
            assert clock.start(frame) <= tick < clock.start(frame + 1)


def test_sound_of_chunks_does_not_drift_from_their_pictures() -> None:
    assert [H3.ticks_of(first, 5) for first in (0, 5, 10, 15)] == [29, 28, 28, 29]
    assert [H3.ticks_of(first, 15) for first in (0, 15, 30)] == [85, 85, 85]
    hour = 24 * 3600 // 17 * 5
    ticks = sum(H3.ticks_of(first, 5) for first in range(0, hour, 5))
    assert 0 <= ticks - H3.start(hour) < 1


def test_sound_is_placed_behind_its_frame_and_repeats_with_the_pattern() -> None:
    assert H3.phases(0) == (0.0, 1.0)
    assert H3.phases(5) == (pytest.approx(2 / 3),)
    assert H3.phases(15) == H3.phases(0)
    assert H3.phases(3 * 5 * 1000 + 5) == H3.phases(5)  # to the last bit, days later
    assert EVEN.phases(3)[:2] == (2.75, 3.75)


def test_sound_that_begins_before_its_frame() -> None:
    early = StreamClock((Fraction(0),), Fraction(25, 3), early=Fraction(10))
    assert [early.first_tick(frame) for frame in range(4)] == [0, 0, 7, 15]


def test_the_published_model_has_this_clock() -> None:
    from adastate_core.families import minimax

    assert minimax._clock() == H3
    assert MiniMaxH3Family.sound.rate == 40.0


@pytest.mark.parametrize(
    "clock", [H3, EVEN, StreamClock((Fraction(0),), Fraction(25, 3), Fraction(9))]
)
@pytest.mark.parametrize("frames", [0, 1, 3, 5])
def test_no_stretch_has_more_ticks_than_the_most(clock: StreamClock, frames: int) -> None:
    assert clock.most_ticks(frames) == max(clock.ticks_of(first, frames) for first in range(90))
