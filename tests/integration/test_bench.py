"""The bench runs, at tiny sizes: what it measures there means nothing, that it measures does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEADLINES = {
    "overhead", "chunk200_over_5", "rss_400_over_20", "core_over_ours_168", "decode_ratio",
}  # fmt: skip
PARTS = ("recurrence", "growth", "render", "core", "decode", "states", "caches", "speed")


@pytest.mark.slow
def test_every_part_runs(repository: Path, tmp_path: Path) -> None:
    output, chart = tmp_path / "bench.json", tmp_path / "copy.png"
    command = [sys.executable, "-m", "tools.bench", "--small", "--only", *PARTS]
    command += ["--output", str(output), "--chart", str(chart)]
    done = subprocess.run(
        command, cwd=repository, env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(output.read_text())
    assert all(result[name] > 0 for name in HEADLINES)
    assert {row["part"] for row in result["rows"]} == set(PARTS) == set(PARTS) & set(result)
    for row in result["rows"]:
        assert f"{row['target']:g}" in done.stdout
        assert row["name"] in done.stdout
    assert chart.read_bytes() == output.with_suffix(".png").read_bytes()
    # What is exact at any size:
    assert result["decode"]["largest_difference"] < 1e-4
    assert result["states"]["forwards_per_replay"] == 1
    forms = result["caches"]["forms"]
    assert forms["system memory"]["chunk_error"] == 0 < forms["fp8"]["chunk_error"]
    assert forms["fp8"]["bytes_ratio"] < 0.55
    # Nothing moves on a CPU, so what moving costs is not shown.
    timed = [row["name"] for row in result["rows"] if "a chunk over plain" in row["name"]]
    assert timed == ["fp8: a chunk over plain"]
    assert len(result["render"]["long"]["along_bytes"]) == result["render"]["long"]["chunks"]
