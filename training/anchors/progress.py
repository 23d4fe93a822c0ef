"""One table of what there is: clips, and the updates, seconds and losses of every run."""

from __future__ import annotations

from pathlib import Path

from training.anchors.latents import SHARD, whole_shards
from training.anchors.runs import AVERAGE, told

COLUMNS = ("run", "anchors", "seed", "alpha", "updates", "seconds", "first", "later")


def progress_table(folder: Path) -> str:
    """Return the table; losses are means of the last 100 updates."""
    paths = sorted((folder / "runs").glob(f"*/{AVERAGE}"), key=lambda path: path.parent.name)
    rows: list[tuple[str, ...]] = [COLUMNS]
    for path in paths:
        header = told(path) | {"run": path.parent.name}
        if len(header["anchors"].split()) > 1:
            header["anchors"] = "in turn"
        rows.append(tuple(header[name] for name in COLUMNS))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [f"{SHARD * len(whole_shards(folder))} clips in {folder}"]
    for row in rows:
        cells = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
