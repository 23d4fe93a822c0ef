"""Draws the plane of progress against drift: every row a dot with its intervals."""

from __future__ import annotations

import math
from pathlib import Path

from training.measure.controls import REAL, REPEATED
from training.measure.evaluate import Measured, Result
from training.measure.ink import FAINT, LIGHT, RULE, Card, Colour, colour_of
from training.measure.statistics import Interval
from training.measure.table import of_row

WIDTH, HEIGHT = 900, 620
LEFT, TOP, RIGHT, BOTTOM = 92, 122, 36, 84
# Of the controls those that a person wants to see anchors beside.
SHOWN = (REAL, REPEATED)


def steps(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two ends, at most so many."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1.0, 2.0, 2.5, 5.0, 10.0) if power * f >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)]


class Plane:
    """Axes on a card, from what has to fit."""

    def __init__(self, spans: list[tuple[Interval, Interval]]) -> None:
        x = [v for across, _ in spans for v in (across.low, across.high)]
        y = [v for _, down in spans for v in (down.low, down.high)]
        self.x = min(0.0, *x) - 0.03, max(1.0, *x) + 0.06
        self.y = 0.0, max(0.1, *y) * 1.12
        self.card = Card(WIDTH, HEIGHT)

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def axes(self) -> None:
        card = self.card
        card.words("Progress against drift", LEFT, 22, 24, LIGHT)
        card.words(
            "each dot is one anchor over all prompts, lines are 95 % intervals", LEFT, 54, 15, FAINT
        )
        for value in steps(*self.x):
            x, bottom = self.at(value, self.y[0])
            card.line((x, TOP), (x, bottom), colour=RULE)
            card.words(f"{100 * value:.0f} %", x, bottom + 8, 14, FAINT, "ma")
        for value in steps(*self.y):
            left, y = self.at(self.x[0], value)
            card.line((left, y), (WIDTH - RIGHT, y), colour=RULE)
            card.words(f"{100 * value:.0f} %", left - 8, y, 14, FAINT, "rm")
        middle = (LEFT + WIDTH - RIGHT) / 2
        card.words(
            "progress: distance travelled, of the distance asked for   (100 % is right)",
            middle,
            HEIGHT - 44,
            15,
            LIGHT,
            "ma",
        )
        card.words("drift of looks   (less is better)", LEFT - 66, TOP - 14, 15, LIGHT, "ls")

    def row(self, name: str, span: tuple[Interval, Interval], colour: Colour, filled: bool) -> None:
        across, down = span
        x, y = self.at(across.mean, down.mean)
        self.card.line(
            self.at(across.low, down.mean), self.at(across.high, down.mean), colour=colour, width=2
        )
        self.card.line(
            self.at(across.mean, down.low), self.at(across.mean, down.high), colour=colour, width=2
        )
        self.card.dot(x, y, 7 if filled else 5, colour, filled=filled)
        size = 17 if filled else 14
        if x > WIDTH - 240:
            self.card.words(name, x - 12, y - 10, size, colour, "rs")
        else:
            self.card.words(name, x + 12, y - 10, size, colour, "ls")


def span_of(row: Measured) -> tuple[Interval, Interval] | None:
    across, down = of_row(row, "progress"), of_row(row, "drift")
    return None if across is None or down is None else (across, down)


def draw_plane(result: Result, path: Path) -> Path:
    """Draw the plane and write it."""
    rows = [(row.name, span_of(row)) for row in result.rows]
    beside = [(row.name, span_of(row)) for row in result.controls if row.name in SHOWN]
    spans = [span for _, span in [*beside, *rows] if span is not None]
    plane = Plane(spans)
    plane.axes()
    for name, span in beside:
        if span is not None:
            plane.row(name, span, FAINT, filled=False)
    for index, (name, span) in enumerate(rows):
        if span is not None:
            plane.row(name, span, colour_of(index), filled=True)
    plane.card.finished().save(path, optimize=True)
    return path
