"""Measures with their targets, as a table that a human can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measure and what it should be.

    Args:
        name: What is measured, in a few words.
        measured: The number.
        target: What it should be at most.
        unit: Unit of both, empty for a ratio.
        at_least: Whether the target is a floor and no ceiling.
    """

    name: str
    measured: float
    target: float
    unit: str = ""
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Whether the target is missed."""
        if self.at_least:
            return not self.measured >= self.target
        return not self.measured <= self.target

    @property
    def used(self) -> float:
        """Return how much of the target is used up: 1 meets it, more misses it."""
        if self.at_least:
            return self.target / self.measured if self.measured > 0 else float("inf")
        if self.target == 0:
            return float("inf") if self.measured else 1.0
        return self.measured / self.target

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Return name, number, target and verdict."""
        unit = f" {self.unit}" if self.unit else ""
        bound = "at least" if self.at_least else "at most"
        verdict = "missed" if self.missed else "met"
        number = f"{self.measured:.3f}" if self.measured > 0.01 else f"{self.measured:.2g}"
        return self.name, f"{number}{unit}", f"{bound} {self.target:g}{unit}", verdict


def show(title: str, *rows: Sequence[str]) -> None:
    """Print rows in columns, the first one a heading; only the first column is set to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    print(f"\n{title}")
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((name.ljust(widths[0]), *numbers)).rstrip())


def show_rows(title: str, rows: Iterable[Row]) -> None:
    """Print measures beside their targets."""
    show(title, ("", "measured", "target", ""), *(row.cells for row in rows))
