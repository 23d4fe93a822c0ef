"""Draw the content of a result file: curves over chunks and frames, and a bar for each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness import Row

MET, MISSED = "tab:green", "tab:red"
MOST = 1.25
"""How far over its target a bar is drawn."""

Lines = dict[str, tuple[list[float], list[float]]]


def draw(result: dict[str, Any]) -> Figure:
    """Draw the curves of the parts that the result has, then how much of its target a row uses.

    A bar of 1 meets its target, what is longer misses it.
    """
    panels = list(_panels(result))
    rows = [_row(stored) for stored in result["rows"]]
    heights = [*[2.5] * len(panels), 1 + 0.24 * len(rows)]
    figure = Figure((8, sum(heights)), layout="constrained")
    *curves, bars = figure.subplots(len(heights), squeeze=False, height_ratios=heights).flat
    for axes, (title, unit, lines) in zip(curves, panels, strict=True):
        for name, (x, y) in lines.items():
            axes.plot(x, y, label=name)
        axes.set(title=title, xlabel=unit, ylim=(0, None))
        axes.legend()
    for index, row in enumerate(rows):
        # What is not a number misses its target: min would keep it, as a bar without a length.
        used = row.used if row.used < MOST else MOST
        bars.barh(index, used, color=MISSED if row.missed else MET, alpha=0.6)
        name, number, target, _ = row.cells
        bars.text(0.01, index, f"{name}: {number}, {target}", va="center")
    bars.axvline(1, color="black")
    bars.set(title="how much of its target each measure uses", xlim=(0, MOST), yticks=[])
    bars.invert_yaxis()
    return figure


def _row(stored: dict[str, Any]) -> Row:
    return Row(**{name: stored[name] for name in Row.__dataclass_fields__})


def _panels(result: dict[str, Any]) -> Iterator[tuple[str, str, Lines]]:
    """Give title, unit of the axis below and named lines of every chart of curves."""
    videos = result.get("core", {}).get("videos", {})
    for title, measure, unit in (("time, s", "seconds", 1), ("memory, MiB", "bytes", 2**20)):
        lines: Lines = {}
        for frames, runs in videos.items():
            for way, run in runs.items():
                x, y = lines.setdefault(way, ([], []))
                x.append(float(frames))
                y.append(run[measure] / unit)
        if lines:
            yield f"a video: {title}", "latent frames", lines
    if growth := result.get("growth"):
        shares = [each / growth["early_seconds"] for each in growth["along_seconds"]]
        yield "time of a chunk, over the fifth", "chunk", {"adaptive": _along(shares)}
    if render := result.get("render"):
        memory = [each / 2**20 for each in render["long"]["along_bytes"]]
        yield "memory of a render, MiB", "chunk", {"Render Stream to Video": _along(memory)}


def _along(values: list[float]) -> tuple[list[float], list[float]]:
    return [float(index) for index in range(len(values))], values
