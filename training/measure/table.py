"""Writes what was measured: a table in Markdown, and everything as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from training.measure.evaluate import Measured, Result
from training.measure.figures import FIGURES, Figure
from training.measure.statistics import Interval, averaged, interval

DRIFT: dict[str, Figure] = {
    "luminance": Figure("luminance", 1.0),
    "saturation": Figure("saturation", 1.0),
    "sharpness": Figure("sharpness", 1.0),
    "drift": Figure("drift of looks %", 0.0, True),
    "flow": Figure("optical flow", float("nan")),
}
ALL = FIGURES | DRIFT
# Three tables of the same rows: one would be too wide to read.
PARTS: dict[str, tuple[str, ...]] = {
    "Progress and motion": (
        "progress",
        "progress_end",
        "off_way",
        "destination",
        "direction",
        "pace",
        "change",
        "flow",
    ),
    "What the prompt says": ("colour", "subject", "action", "light", "identity", "present"),
    "Drift": ("luminance", "saturation", "sharpness", "drift", "seams"),
}
# What the paired table compares.
COMPARED = (
    "progress",
    "off_way",
    "destination",
    "direction",
    "pace",
    "colour",
    "action",
    "identity",
    "change",
    "flow",
    "seams",
    "drift",
)
LEGEND = """\
Means with 95 % intervals: a bootstrap over prompts. *Progress* is the way travelled as it is read \
from latents, followed around the ring, over the way that the prompt asks for by that time \
(*on the way*: mean of all chunks from half a region on; *at the end*: last chunk); *off the way* \
is the mean distance between both in shares of the whole way. *Change* is the mean distance of \
features of chunk k and k + 5, over that of two moments picked by chance. *Optical flow* is dense \
pyramidal Lucas-Kanade on decoded pictures, in pixels a picture. Luminance, saturation and \
sharpness are those of the last decoded chunk over the first, both over the world's at the same \
moments; *drift of looks* is the mean of how far the three are from 1. *Seams* are jumps of \
latents from chunk to chunk over jumps inside chunks. *Identity kept* is the share of chunks whose \
colour and subject are read as in the first. The Frechet distance is that of the reader's \
24 features to the world's at the same chunk.
"""


def form(found: Interval | None, figure: Figure, signed: bool = False) -> str:
    if found is None:
        return "-"
    scale, digits = (100.0, 0) if figure.percent else (1.0, 2)
    sign = "+" if signed else ""
    mean, low, high = (scale * v for v in (found.mean, found.low, found.high))
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def ideal_of(figure: Figure) -> str:
    if math.isnan(figure.ideal):
        return "as the world"
    return f"{100 * figure.ideal:.0f}" if figure.percent else f"{figure.ideal:.2f}"


def of_row(row: Measured, figure: str) -> Interval | None:
    return interval(averaged(row.values(figure), row.prompts))


def lines_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def compare(one: Measured, other: Measured, figure: str) -> Interval | None:
    """One row minus another, paired by prompt and seed."""
    streams = [
        averaged(row.values(figure), list(zip(row.prompts, row.seeds, strict=True)))
        for row in (one, other)
    ]
    both = [stream for stream in streams[0] if stream in streams[1]]
    apart = [streams[0][stream] - streams[1][stream] for stream in both]
    return interval(averaged(apart, [prompt for prompt, _ in both]))


def markdown(result: Result) -> str:
    """Write all tables, with what they were measured with at their head."""
    lines = [f"{name}: {value}" for name, value in _flat(result.about)]
    text = ["```", *lines, "```", "", LEGEND]
    rows = [*result.rows, *result.controls]
    for title, names in PARTS.items():
        text += [f"### {title}", ""]
        head = ["row", "streams", *(ALL[name].title for name in names)]
        cells = [
            [row.name, str(len(row.seeds)), *(form(of_row(row, n), ALL[n]) for n in names)]
            for row in rows
        ]
        ideal = ["*ideal*", "", *(ideal_of(ALL[name]) for name in names)]
        text += lines_of(head, [*cells, ideal])
    if any(row.frechet for row in result.rows):
        chunks = sorted(result.floor)
        text += ["### Frechet distance to the world, by chunk", ""]
        plain = Figure("", 0.0)
        cells = [
            [row.name, *(form(row.frechet.get(chunk), plain) for chunk in chunks)]
            for row in result.rows
        ]
        text += lines_of(["row", *(f"chunk {chunk}" for chunk in chunks)], cells)
        floor = ", ".join(f"{result.floor[chunk]:.2f}" for chunk in chunks)
        text += [f"Two halves of the world against each other: {floor}.", ""]
    if len(result.rows) > 1:
        first = result.rows[0]
        text += [f"### {first.name} minus the others, paired by prompt and seed", ""]
        head = ["row", *(ALL[name].title for name in COMPARED)]
        cells = [
            [row.name, *(form(compare(first, row, n), ALL[n], signed=True) for n in COMPARED)]
            for row in result.rows[1:]
        ]
        text += lines_of(head, cells)
    spent = ", ".join(f"{what} {seconds:.0f}" for what, seconds in result.spent.items())
    return "\n".join([*text, f"Seconds of one core: {spent}.", ""])


def _flat(values: dict[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict):
            told = (
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items()
            )
            yield name, ", ".join(told)
        else:
            yield name, value


def as_json(result: Result) -> str:
    """Write everything, stream by stream."""

    def row(one: Measured) -> dict[str, object]:
        return {
            "name": one.name,
            "streams": [
                {
                    "prompt": prompt,
                    "seed": seed,
                    "figures": figures,
                    "looks": [look.as_dict() for look in looks],
                }
                for prompt, seed, figures, looks in zip(
                    one.prompts, one.seeds, one.figures, one.looks, strict=True
                )
            ],
            "means": {n: asdict(v) for n in ALL if (v := of_row(one, n)) is not None},
            "frechet": {str(chunk): asdict(v) for chunk, v in one.frechet.items()},
        }

    told = {
        "about": result.about,
        "rows": [row(one) for one in result.rows],
        "controls": [row(one) for one in result.controls],
        "frechet_floor": {str(chunk): value for chunk, value in result.floor.items()},
        "core_seconds": result.spent,
    }
    return json.dumps(told, indent=1)


def write_result(result: Result, folder: Path) -> list[Path]:
    """Write ``table.md`` and ``table.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "table.md", folder / "table.json"
    for path, text in zip(paths, (markdown(result), as_json(result)), strict=True):
        path.write_text(text, "utf-8")
    return list(paths)
