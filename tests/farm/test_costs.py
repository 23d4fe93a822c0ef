"""What a farm costs can be measured, with real servers and with workers that only sleep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.farm import only_in_full

ROOT = Path(__file__).parents[2]
TARGETS = {
    "a farm of one worker over bare queueing": 1.03,
    "the same, by what lies between the prompts": 1.03,
    "two workers over one, a thread each": 1.7,
    "two workers over two servers queued bare": 1.03,
    "driver, 8 streams over 4 workers": 10,
    "driver, 8 streams over 4 workers, over 4": 1.2,
    "memory of the driver, 8 streams over 4 workers": 50,
}


@pytest.mark.slow
@only_in_full
def test_every_figure_comes_out(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--small", "--only", "farm"]
    # In a process of its own: Ray is connected to one cluster at a time.
    done = subprocess.run(
        [*command, "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(output.read_text("utf-8"))
    assert {row["name"]: row["target"] for row in result["rows"]} == TARGETS
    measured = result["farm"]
    assert measured["waiting_seconds_a_prompt"] > 0
    assert measured["bare_waiting_seconds_a_prompt"] > 0
    assert measured["two_workers"]["one_worker_seconds"] > 0
    assert measured["driver_seconds_a_prompt_many"] > 0
