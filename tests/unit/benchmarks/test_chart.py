"""The chart of a result file."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.colors import to_rgb

from benchmarks.chart import MET, MISSED, MOST, draw
from benchmarks.harness import Measured, Row, assemble


def result_with(*rows: Row) -> dict[str, Any]:
    return assemble({}, {"decode": Measured(list(rows), {"decode_ratio": 1.0})})


def test_bars_are_as_long_as_targets_are_used_and_red_where_they_are_missed() -> None:
    rows = [Row("a", 0.9, 1.0), Row("b", 1.1, 1.0), Row("c", 9.0, 1.0), Row("d", math.nan, 1.0)]
    (axes,) = draw(result_with(*rows)).axes
    assert [bar.get_width() for bar in axes.patches] == [0.9, 1.1, MOST, MOST]
    colours = [bar.get_facecolor()[:3] for bar in axes.patches]
    assert colours == [to_rgb(MET)] + [to_rgb(MISSED)] * 3
    texts = [text.get_text() for text in axes.texts]
    assert texts[:2] == ["a: 0.900, at most 1", "b: 1.100, at most 1"]


def test_every_part_with_a_curve_has_a_panel() -> None:
    runs = {
        frames: {way: {"seconds": frames / 10, "bytes": frames * 2**20} for way in ("core", "ours")}
        for frames in (21, 42)
    }
    curves = result_with(Row("a", 1.0, 1.0)) | {
        "core": {"videos": runs},
        "growth": {"early_seconds": 0.2, "along_seconds": [0.2, 0.3, 0.2]},
        "render": {"long": {"along_bytes": [2**20, 2**21]}},
    }
    times, memory, chunks, render, _ = draw(curves).axes
    assert [line.get_label() for line in times.lines] == ["core", "ours"]
    assert list(times.lines[0].get_xdata()) == [21.0, 42.0]
    assert list(memory.lines[1].get_ydata()) == [21.0, 42.0]
    assert list(chunks.lines[0].get_ydata()) == [1.0, 0.3 / 0.2, 1.0]
    assert list(render.lines[0].get_ydata()) == [1.0, 2.0]
