"""The bench: every measure has a target, and what is missed is said in table, file and chart."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tools.bench import __main__ as bench
from tools.bench.chart import draw
from tools.bench.results import HEADLINES, assemble
from tools.bench.table import Row, show_rows
from tools.bench.timing import in_turns

RED, GREEN = (255, 93, 93), (155, 227, 143)


@pytest.mark.parametrize(
    ("row", "missed", "used"),
    [
        (Row("a", 1.02, 1.0), True, 1.02),
        (Row("a", 1.0, 1.0), False, 1.0),
        (Row("a", 2.0, 3.0, at_least=True), True, 1.5),
        (Row("a", 6.0, 3.0, at_least=True), False, 0.5),
        (Row("a", 0.0, 0.0), False, 1.0),
        (Row("a", 0.1, 0.0), True, math.inf),
        (Row("a", math.nan, 1.0), True, math.nan),
    ],
)
def test_a_row_knows_whether_its_target_is_missed(row: Row, missed: bool, used: float) -> None:
    assert row.missed is missed
    assert row.used == pytest.approx(used, nan_ok=True)


def test_the_table_says_the_target_of_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows("Title", [Row("time", 1.5, 1.0, "s"), Row("gain", 6.0, 3.0, at_least=True)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == [
        ["time", "1.500", "s", "at", "most", "1", "s", "missed"],
        ["gain", "6.000", "at", "least", "3", "met"],
    ]


def test_in_turns_swaps_who_is_first() -> None:
    order: list[str] = []
    pairs = in_turns(lambda: order.append("ours"), lambda: order.append("bare"), 3)
    assert order == ["ours", "bare", "bare", "ours", "ours", "bare"]
    assert len(pairs) == 3


def test_figures_that_decide_are_at_the_top_of_the_file() -> None:
    parts = {part: {name: 1.5} for name, part in HEADLINES.items()}
    result = assemble({"threads": 1}, parts, {"decode": [Row("decoding", 1.5, 1.05)]})
    assert {name: result[name] for name in HEADLINES} == dict.fromkeys(HEADLINES, 1.5)
    assert result["recurrence"] == {"overhead": 1.5}
    (row,) = result["rows"]
    assert (row["part"], row["target"], row["missed"]) == ("decode", 1.05, True)


def test_all_parts_run_by_default_and_speed_alone_on_a_graphics_card() -> None:
    assert set(bench.parse([]).parts) == set(bench.PARTS) >= set(HEADLINES.values())
    assert list(bench.parse(["--only", "decode", "growth"]).parts) == ["growth", "decode"]
    assert list(bench.parse(["--device", "cuda"]).parts) == ["speed"]
    with pytest.raises(SystemExit):
        bench.parse(["--device", "cuda", "--only", "decode"])


def test_small_sizes_leave_the_results_of_a_real_run_alone() -> None:
    assert bench.parse(["--small"]).output != bench.parse([]).output


def test_a_machine_without_cuda_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds no CUDA device here: run the bench without"):
        bench.main(["--device", "cuda"])


def result_with(*rows: Row) -> dict[str, Any]:
    return assemble({}, {}, {"decode": list(rows)})


def test_the_chart_shows_a_missed_target_in_red() -> None:
    def colours(row: Row) -> set[Any]:
        picture = draw(result_with(row))
        return {colour for _, colour in picture.getcolors(picture.width * picture.height) or ()}

    met, missed = colours(Row("a", 0.9, 1.0)), colours(Row("a", 1.1, 1.0))
    assert (GREEN in met, RED in met) == (True, False)
    assert (GREEN in missed, RED in missed) == (False, True)


def test_the_chart_has_room_for_every_row_and_curve() -> None:
    rows = [Row("a", 1.0, 1.0)] * 3
    bare = draw(result_with(*rows))
    assert draw(result_with(*rows, *rows)).height > bare.height
    curves = result_with(*rows) | {
        "growth": {"early_seconds": 0.2, "along_seconds": [0.2, 0.21, 0.2]},
        "render": {"long": {"along_bytes": [2**20, 2**21]}},
    }
    assert draw(curves).height > bare.height
