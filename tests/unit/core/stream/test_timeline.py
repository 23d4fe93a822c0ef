"""The text of a timeline: what it says for every chunk, and what is wrong with it, by line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adastate_core.errors import ConfigError
from adastate_core.stream.pace import Pace
from adastate_core.stream.timeline import (
    ChunkPrompt,
    PromptPlan,
    order_problems,
    parse_timeline,
    plan_prompts,
    read_timeline,
)

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


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ("0:00", 0.0),
        ("00:00", 0.0),
        ("0:00.5", 0.5),
        ("1:10", 70.0),
        ("01:10", 70.0),
        ("1:10.5", 70.5),
        ("1:10 s", 70.0),
        ("1:10s", 70.0),
        ("0:00:05", 5.0),
        ("1:02:03", 3723.0),
        ("1:02:03.25", 3723.25),
        ("100:00", 6000.0),
        ("12:00:00", 43200.0),
        ("90s", 90.0),
        ("6.5S", 6.5),
        ("0.5 s", 0.5),
    ],
)
@pytest.mark.parametrize(
    ("how", "transition", "count"),
    [
        ("", "swap", 0),
        (" swap", "swap", 0),
        (" blend 3", "blend", 3),
        (" recache", "recache", 0),
        (" flush 2", "flush", 2),
        (" Recache ", "recache", 0),
    ],
)
@pytest.mark.parametrize("text", ["a", " 10 people: at 9:30", " 30: a", ":", " chunk 4: b"])
def test_times_are_read_in_every_way_that_clocks_are_written(
    when: str, seconds: float, how: str, transition: str, count: int, text: str
) -> None:
    (cue,) = parse_timeline(f"{when}{how}:{text}")
    assert (cue.start, cue.in_seconds) == (seconds, True)
    assert (cue.transition, cue.count, cue.text) == (transition, count, text.strip())


def test_a_clock_time_is_the_chunk_of_that_moment() -> None:
    made = plan("0:00: a\n0:01.5: b\n2.5s: c\n0:00:03.9: d")
    assert [p.text for p in made] == ["a", "a", "b", "c", "c", "d"]
    assert [PACE.chunk_at(s) for s in (1.5, 2.5, 3.9)] == [2, 3, 5]
    assert plan("1:10: a", first=94, chunks=1)[0].text == "a"
    with pytest.raises(ConfigError, match="Line 1: it begins with chunk 93, but"):
        plan("1:10: a")


@pytest.mark.parametrize(
    ("line", "chunk", "text"),
    [
        ("0: a: b", 0, "a: b"),
        ("1: 10: prompt", 1, "10: prompt"),
        ("1: 10 people", 1, "10 people"),
        ("1: 10:30 in the morning", 1, "10:30 in the morning"),
        ("0:3 birds", 0, "3 birds"),
        ("0:100 birds", 0, "100 birds"),
        ("0:16mm film", 0, "16mm film"),
        ("0:4k", 0, "4k"),
        ("0: 16:9", 0, "16:9"),
        ("4 recache:10 people", 4, "10 people"),
        ("chunk 1:10 people", 1, "10 people"),
        ("chunk 1: 10: people", 1, "10: people"),
        ("7:a 1:10: b", 7, "a 1:10: b"),
        ("007 : a", 7, "a"),
    ],
)
def test_prompts_may_have_numbers_and_colons(line: str, chunk: int, text: str) -> None:
    (cue,) = parse_timeline(line)
    assert (cue.start, cue.in_seconds, cue.text) == (chunk, False, text)


@pytest.mark.parametrize(
    ("line", "start", "in_seconds", "text"),
    [
        ("0\uff1aa", 0, False, "a"),
        ("\uff14 blend \uff12\uff1aa\uff1ab", 4, False, "a\uff1ab"),
        ("1\uff1a10\uff1aa", 70, True, "a"),
        ("\uff11\uff1a\uff11\uff10: a", 70, True, "a"),
        ("6\uff0e5s\uff1a a", 6.5, True, "a"),
        ("1\uff1a 10 people", 1, False, "10 people"),
    ],
)
def test_full_width_colons_and_digits_are_plain_ones(
    line: str, start: float, in_seconds: bool, text: str
) -> None:
    (cue,) = parse_timeline(line)
    assert (cue.start, cue.in_seconds, cue.text) == (start, in_seconds, text)


def test_problems_are_data_and_the_other_lines_are_read() -> None:
    cues, problems = read_timeline("0: a\n4 fade: b\n\n6: c\nsoon: d")
    assert [(cue.line, cue.text) for cue in cues] == [(1, "a"), (4, "c")]
    assert [(problem.line, problem.sentence) for problem in problems] == [
        (2, '"fade" is not a transition. Use swap, blend, recache or flush.'),
        (
            5,
            '"soon" is not a chunk or a time. Begin the line with 4, 6.5s or 1:10, and a '
            "transition if you like.",
        ),
    ]
    assert order_problems(cues, PACE, first=0) == []
    (late,) = order_problems(cues[1:], PACE, first=2)
    assert late.named == "Line 4: it begins with chunk 6, but the first chunk to be made is 2"


DOUBTFUL = "can be read as a time or as a chunk. Put a colon after a time"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1:10 people", DOUBTFUL),
        ("1:10", DOUBTFUL),
        ("1:10.5", DOUBTFUL),
        ("1:10 blend 3", DOUBTFUL),
        ("1:5: a", DOUBTFUL),
        ("1:5 recache: a", DOUBTFUL),
        ("1:05:5: a", DOUBTFUL),
        ("1:100: a", DOUBTFUL),
        ("1:10,5: a", DOUBTFUL),
        ("1:10:30 people", DOUBTFUL),
        ("1:02:03:04: a", DOUBTFUL),
        ("1:10min: a", DOUBTFUL),
        ("4 :10: a", DOUBTFUL),
        ("1:60: a", "1:60 is not a time. Keep minutes and seconds below 60."),
        ("1:59.5:", "there is no prompt. Write one after the colon."),
        ("1:60:00: a", "1:60:00 is not a time"),
        ("1:10 people: a", '"people" is not a transition. Use swap, blend'),
        ("1:10 blend: a", "blend has no number. Write blend 2 for 2 chunks"),
        ("chunk 1:10: a", "is a chunk and a time at once. Give one of them."),
        ("chunk 1:10 recache: a", "is a chunk and a time at once. Give one of them."),
        ("chunk 6.5s: a", "is a chunk and a time at once. Give one of them."),
        ("-1:10: a", '"-1" is not a chunk or a time'),
        ("1.5:10: a", "chunk 1.5 is not a whole number. Write 1.5s"),
        ("9" * 400 + ": a", '9..." is not a chunk or a time'),
        ("1e3: a", '"1e3" is not a chunk'),
        ("1m30s: a", '"1m30s" is not a chunk or a time. Begin the line with 4, 6.5s or 1:10'),
    ],
)
def test_what_could_be_misread_is_refused(line: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("Line 2: ") + ".*" + re.escape(problem)):
        parse_timeline(f"0: a\n{line}")


@given(st.text("0123456789:.,s chunkblendrecacheflushswap\n#-", max_size=40))
@settings(max_examples=500)
def test_a_line_that_begins_with_a_time_is_never_read_as_a_chunk(text: str) -> None:
    try:
        cues = parse_timeline(text)
        plan_prompts(cues, PACE, 10**6, 1)
    except ConfigError:
        return
    lines = text.splitlines()
    for cue in cues:
        line = lines[cue.line - 1]
        assert line.endswith(cue.text) or line.rstrip().endswith(cue.text)
        assert cue.in_seconds or not re.match(r"\s*\d+:\d\d(?!\w)", line)


def test_recache_and_flush_come_before_their_chunk_only() -> None:
    made = plan("0: a\n1 recache: b\n3 flush 2: c")
    assert [(p.transition, p.count) for p in made] == [
        ("swap", 0),
        ("recache", 0),
        ("swap", 0),
        ("flush", 2),
        ("swap", 0),
        ("swap", 0),
    ]
    # Also where the stream was continued from another timeline.
    assert plan("4 recache: a", first=4, chunks=1)[0].transition == "recache"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The timeline has no prompt. Write a line"),
        ("# nothing", "The timeline has no prompt. Write a line"),
        ("0 a", "Line 1: there is no colon. Put one between"),
        ("0:  ", "Line 1: there is no prompt"),
        ("0: a\nsoon: b", 'Line 2: "soon" is not a chunk or a time'),
        ("0: a\n1.5: b", "Line 2: chunk 1.5 is not a whole number"),
        ("0: a\n-1: b", 'Line 2: "-1" is not a chunk'),
        (
            "0: a\n1 fade 2: b",
            'Line 2: "fade" is not a transition. Use swap, blend, recache or flush.',
        ),
        ("0: a\n1 blend: b", "Line 2: blend has no number"),
        ("0: a\n1 flush: b", "Line 2: flush has no number. Write flush 2 for 2 frames"),
        ("0: a\n1 blend 0: b", "Line 2: blend 0 is out of range. Use 1 to 64 chunks."),
        ("0: a\n1 recache 2: b", "Line 2: recache takes no number. Write recache alone."),
        (
            "0: a\n2: b\n2: c",
            "Line 3: it begins with chunk 2, and line 2 with chunk 2. Let it begin later",
        ),
        ("0: a\n4: b\n0.1s: c", "Line 3: it begins with chunk 0, and line 2 with chunk 4"),
        ("3: a", "Line 1: it begins with chunk 3, but the first chunk to be made is 0"),
    ],
)
def test_problems_are_named_by_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        plan(text)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"^Line 1: there is .*[.] Line 3: .fade. is"):
        parse_timeline("a\n0: b\n1 fade: c")


@pytest.mark.parametrize(
    ("first", "chunks", "texts"),
    [
        (0, 1, ["a"]),
        (0, 4, ["a", "b"]),
        (4, 1, ["a", "b"]),
        (5, 1, ["b"]),
        (3, 9, ["a", "b", "c"]),
        (5, 99, ["b", "c", "a"]),
    ],
)
def test_a_run_knows_the_texts_it_uses(first: int, chunks: int, texts: list[str]) -> None:
    cues = parse_timeline("0: a\n3 blend 3: b\n8 flush 1: c\n20: a")
    assert PromptPlan.of(cues, PACE, first).texts(first, chunks) == texts


def test_a_plan_is_as_large_for_a_million_chunks() -> None:
    made = PromptPlan.of(parse_timeline("0: a\n3 blend 3: b\n900000 flush 2: c"), PACE, 0)
    assert made.at(4) == ChunkPrompt(4, "b", "a", 2 / 3)
    assert made.at(899_999) == ChunkPrompt(899_999, "b")
    assert made.at(900_000) == ChunkPrompt(900_000, "c", transition="flush", count=2)
    assert made.texts(0, 1_000_000) == ["a", "b", "c"]
