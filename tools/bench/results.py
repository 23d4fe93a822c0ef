"""What a run of the bench has measured: the figures that decide, all rows, all details."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tools.bench.table import Row

HEADLINES = {
    "overhead": "recurrence",
    "chunk200_over_5": "growth",
    "rss_400_over_20": "render",
    "core_over_ours_168": "core",
    "decode_ratio": "decode",
}
"""Figures that stand at the top of the file, and the part that each comes from."""


def assemble(
    setting: dict[str, Any], parts: dict[str, dict[str, Any]], rows: dict[str, list[Row]]
) -> dict[str, Any]:
    """Return the content of the file.

    Args:
        setting: What is the same for all parts.
        parts: What each part has measured.
        rows: The rows of each part.
    """
    headlines = {name: parts[part][name] for name, part in HEADLINES.items() if part in parts}
    return {**headlines, "setting": setting, "rows": list(_plain(rows.items())), **parts}


def _plain(parts: Iterable[tuple[str, list[Row]]]) -> Iterable[dict[str, Any]]:
    for part, rows in parts:
        for row in rows:
            yield {"part": part, **vars(row), "missed": row.missed}
