"""The text of a timeline: what it says for every chunk, and what is wrong with it, by line."""

from __future__ import annotations

import pytest

from adastate_core.errors import ConfigError
from adastate_core.timeline import ChunkPrompt, Pace, parse_timeline, plan_prompts

PACE = Pace(chunk_frames=3, time_stride=4, fps=16.0)


def plan(text: str, first: int = 0, chunks: int = 6, pace: Pace = PACE) -> list[ChunkPrompt]:
    return plan_prompts(parse_timeline(text), pace, first, chunks)


def test_each_prompt_lasts_until_the_next() -> None:
    made = plan("0: a\n\n# not this one\n  chunk 2 : b: with a colon  \n4 swap: c")
    assert [p.text for p in made] == ["a", "a", "b: with a colon", "b: with a colon", "c", "c"]
    assert {p.transition for p in made} == {"swap"}
    assert [p.chunk for p in plan("0: a\n7: b", first=5, chunks=3)] == [5, 6, 7]
    assert [p.text for p in plan("0: a\n7: b", first=5, chunks=3)] == ["a", "a", "b"]


def test_a_moment_belongs_to_the_chunk_that_shows_it() -> None:
    # Chunk 0 shows frames 0 to 8, chunk 1 frames 9 to 20, at 16 frames a second.
    expected = {0.0: 0, 8 / 16: 0, 9 / 16: 1, 20 / 16: 1, 21 / 16: 2, 10.0: 13}
    assert {s: PACE.chunk_at(s) for s in expected} == expected
    framewise = Pace(chunk_frames=1, time_stride=8, fps=25.0)
    assert [framewise.chunk_at(f / 25) for f in (0, 1, 8, 9)] == [0, 1, 1, 2]
    assert [p.text for p in plan("0s: a\n0.5625 s: b")][:2] == ["a", "b"]


def test_every_frame_of_a_stream_is_in_the_chunk_that_makes_it() -> None:
    frame = 0
    for chunk in range(8):
        for _ in range(9 if chunk == 0 else 12):
            assert PACE.chunk_at(frame / 16.0) == chunk
            frame += 1


def test_a_blend_mixes_over_its_chunks() -> None:
    made = plan("0: a\n2 blend 3: b")
    mixes = [(p.text, p.before, p.share) for p in made]
    assert mixes[1] == ("a", None, 1.0)
    assert mixes[2] == ("b", "a", pytest.approx(1 / 3))
    assert mixes[3] == ("b", "a", pytest.approx(2 / 3))
    assert mixes[4] == mixes[5] == ("b", None, 1.0)


def test_recache_and_flush_come_before_their_chunk_only() -> None:
    made = plan("0: a\n1 recache: b\n3 flush 2: c")
    assert [(p.transition, p.count) for p in made] == [
        ("swap", 0), ("recache", 0), ("swap", 0), ("flush", 2), ("swap", 0), ("swap", 0),
    ]  # fmt: skip
    # Also where the stream was continued from another timeline.
    assert plan("4 recache: a", first=4, chunks=1)[0].transition == "recache"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no line with a prompt"),
        ("# nothing", "no line with a prompt"),
        ("0 a", "line 1: no colon"),
        ("0:  ", "line 1: no prompt after the colon"),
        ("0: a\nsoon: b", "line 2: got 'soon', expected a chunk"),
        ("0: a\n1.5: b", "line 2: got chunk 1.5, expected a whole number"),
        ("0: a\n-1: b", "line 2: got '-1'"),
        ("0: a\n1 fade 2: b", "line 2: got 'fade', expected swap, blend"),
        ("0: a\n1 blend: b", "line 2: blend needs a number of chunks"),
        ("0: a\n1 flush: b", "line 2: flush needs a number of frames"),
        ("0: a\n1 blend 0: b", "line 2: got blend 0, expected 1 to 64 chunks"),
        ("0: a\n1 recache 2: b", "line 2: recache takes no number, got 2"),
        ("0: a\n2: b\n2: c", "line 3: begins with chunk 2, and line 2 with chunk 2"),
        ("0: a\n4: b\n0.1s: c", "line 3: begins with chunk 0, and line 2 with chunk 4"),
        ("3: a", "line 1: begins with chunk 3, but the first chunk to be made is 0"),
    ],
)
def test_problems_are_named_by_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        plan(text)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"line 1: .*; line 3: "):
        parse_timeline("a\n0: b\n1 fade: c")
