"""Tables that a human can read."""

from __future__ import annotations

from collections.abc import Sequence


def show(title: str, *rows: Sequence[str]) -> None:
    """Print rows in columns, the first one a heading; only the first column is set to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    print(f"\n{title}")
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((name.ljust(widths[0]), *numbers)).rstrip())


def against(measured: float, target: float | None) -> tuple[str, str, str]:
    """Return the cells of a ratio: the number, its target if it has one, and whether it missed."""
    if target is None:
        return f"{measured:.3f}", "", ""
    return f"{measured:.3f}", f"{target:.2f}", "missed" if measured > target else ""
