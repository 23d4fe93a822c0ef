"""How chunks, frames and seconds count each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adastate_core.stream.pace import Pace

PACE = Pace(chunk_frames=3, time_stride=4, fps=16.0)
PACES = st.builds(
    Pace,
    chunk_frames=st.integers(1, 21),
    time_stride=st.integers(1, 8),
    fps=st.sampled_from((8.0, 12.5, 16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0)),
)


def test_the_chunk_that_begins_a_video_is_shorter() -> None:
    assert [PACE.frames_of(n, begins=True) for n in range(4)] == [0, 9, 21, 33]
    assert [PACE.frames_of(n, begins=False) for n in range(4)] == [0, 12, 24, 36]
    assert PACE.seconds_of(12, begins=True) == 141 / 16
    framewise = Pace(chunk_frames=1, time_stride=8, fps=25.0)
    assert [framewise.frames_of(n, begins=True) for n in (1, 2)] == [1, 9]


def test_seconds_are_rounded_up_to_whole_chunks() -> None:
    assert PACE.chunks_for(9 / 16, begins=True) == 1
    assert PACE.chunks_for(10 / 16, begins=True) == 2
    assert PACE.chunks_for(12 / 16, begins=False) == 1
    assert PACE.chunks_for(13 / 16, begins=False) == 2
    assert PACE.chunks_for(10.0, begins=True) == 14
    assert PACE.chunks_for(0.001, begins=False) == 1


@given(pace=PACES, chunks=st.integers(1, 5000), begins=st.booleans())
def test_a_length_in_seconds_gives_its_chunks_back(pace: Pace, chunks: int, begins: bool) -> None:
    seconds = pace.seconds_of(chunks, begins=begins)
    assert pace.chunks_for(seconds, begins=begins) == chunks
    assert pace.chunks_for(seconds + 0.5 / pace.fps, begins=begins) == chunks + 1


@given(pace=PACES, seconds=st.floats(0.01, 3600.0), begins=st.booleans())
def test_chunks_reach_the_seconds_and_one_less_does_not(
    pace: Pace, seconds: float, begins: bool
) -> None:
    chunks = pace.chunks_for(seconds, begins=begins)
    assert pace.seconds_of(chunks, begins=begins) >= seconds - 1e-6
    assert chunks == 1 or pace.seconds_of(chunks - 1, begins=begins) < seconds


@pytest.mark.parametrize(
    ("chunks", "begins", "said"),
    [
        (12, True, "12 chunks = 141 frames, 8.8 s"),
        (1, False, "1 chunk = 12 frames, 0.8 s"),
        (12, False, "12 chunks = 144 frames, 9.0 s"),
    ],
)
def test_a_length_is_said(chunks: int, begins: bool, said: str) -> None:
    assert PACE.describe(chunks, begins=begins) == said
