"""The harness: every measure has a target, and what is missed is said in table and file."""

from __future__ import annotations

import math

import pytest

from benchmarks.harness import HEADLINES, Measured, Pairs, Row, assemble, in_turns, show


@pytest.mark.parametrize(
    ("row", "missed", "used"),
    [
        (Row("a", 1.02, 1.0), True, 1.02),
        (Row("a", 1.0, 1.0), False, 1.0),
        (Row("a", 2.0, 3.0, at_least=True), True, 1.5),
        (Row("a", 6.0, 3.0, at_least=True), False, 0.5),
        (Row("a", 0.0, 3.0, at_least=True), True, math.inf),
        (Row("a", 0.0, 0.0), False, 1.0),
        (Row("a", 0.1, 0.0), True, math.inf),
        (Row("a", math.nan, 1.0), True, math.nan),
    ],
)
def test_a_row_knows_whether_its_target_is_missed(row: Row, missed: bool, used: float) -> None:
    assert row.missed is missed
    assert row.used == pytest.approx(used, nan_ok=True)


def test_the_table_says_the_target_of_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("time", 1.5, 1.0, "s"), Row("gain", 6.0, 3.0, at_least=True)]
    show("Title", Measured(rows, {}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == [
        ["time", "1.500", "s", "at", "most", "1", "s", "missed"],
        ["gain", "6.000", "at", "least", "3", "met"],
    ]


def test_in_turns_swaps_who_is_first() -> None:
    order: list[str] = []
    pairs = in_turns(lambda: order.append("ours"), lambda: order.append("bare"), 3)
    assert order == ["ours", "bare", "bare", "ours", "ours", "bare"]
    assert len(pairs.ours) == len(pairs.bare) == 3


def test_pairs_are_compared_one_by_one() -> None:
    # A busy moment in the second pair hits both of it, and so not the ratio.
    pairs = Pairs([2.0, 20.0, 3.0], [1.0, 10.0, 1.0])
    assert pairs.ratio == 2.0
    assert pairs.details("over", "ours", "bare") == {
        "over": 2.0,
        "lowest": 2.0,
        "highest": 3.0,
        "ours": 3.0,
        "bare": 1.0,
    }


def test_figures_that_decide_are_at_the_top_of_the_file() -> None:
    parts = {part: Measured([], {name: 1.5}) for name, part in HEADLINES.items()}
    parts["decode"].rows.append(Row("decoding", 1.5, 1.05))
    result = assemble({"threads": 1}, parts)
    assert {name: result[name] for name in HEADLINES} == dict.fromkeys(HEADLINES, 1.5)
    assert result["recurrence"] == {"overhead": 1.5}
    assert result["setting"] == {"threads": 1}
    (row,) = result["rows"]
    assert (row["part"], row["target"], row["missed"]) == ("decode", 1.05, True)
