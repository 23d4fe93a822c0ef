"""A farm on several machines, one of which is lost: a cluster by Ray's own command, and ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from farm.__main__ import ledger_path
from farm.ledger import read_ledger
from tests.support.farm import CHUNKS, Crew, assert_as_alone, only_in_full, two_jobs, written
from tests.support.machines import Machine, Machines

STREAMS = 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_machine_that_ends_costs_its_prompt_and_nothing_else(alone: Crew, tmp_path: Path) -> None:
    with Machines.start(tmp_path, 3) as machines:
        farm = start(alone, tmp_path, "ended", machines)
        busy_machine(alone, tmp_path / "ended.jsonl", machines).end()
        summary = finish(farm, tmp_path)
    assert summary["retries"] == 1
    assert summary["prompts"] + summary["found"] == STREAMS * CHUNKS
    assert_as_alone(alone, "ended", STREAMS)


@only_in_full
def test_a_machine_out_of_reach_that_goes_on_does_nothing_twice(
    alone: Crew, tmp_path: Path
) -> None:
    with Machines.start(tmp_path, 3) as machines:
        farm = start(alone, tmp_path, "cut", machines)
        cut = busy_machine(alone, tmp_path / "cut.jsonl", machines)
        cut.lose_touch()
        # Its server does not know, and may commit. The farm goes on with a worker elsewhere.
        while sum(machine.serves() for machine in machines.all_) < 3:
            assert farm.poll() is None, (tmp_path / "farm.log").read_text()
            time.sleep(0.2)
        cut.be_back()
        summary = finish(farm, tmp_path)
    assert summary["retries"] >= 1
    assert summary["prompts"] + summary["found"] == STREAMS * CHUNKS
    assert_as_alone(alone, "cut", STREAMS)


def start(crew: Crew, folder: Path, name: str, machines: Machines) -> subprocess.Popen[bytes]:
    """Begin a list of jobs on two of the machines."""
    path = folder / f"{name}.jsonl"
    written(path, two_jobs(name, STREAMS))
    command = [sys.executable, "-m", "farm", "run", str(path), "--workers", "2", "--cpus", "1"]
    command += ["--address", machines.address, "--output", str(crew.folder.path)]
    command += ["--comfyui", os.environ["COMFYUI_PATH"], "--summary", str(folder / "summary.json")]
    with (folder / "farm.log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=machines.environment
        )


def finish(farm: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    """Wait for its end, and return what it says of itself."""
    code = farm.wait(900)
    assert code == 0, (folder / "farm.log").read_text()
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    return summary


def busy_machine(crew: Crew, jobs: Path, machines: Machines) -> Machine:
    """Wait for a prompt that goes on with a stream, and return the machine that has just got it."""
    known: set[tuple[str, int]] = set()
    ledger = ledger_path(jobs)
    while True:
        begun = {name: entry.begun for name, entry in read_ledger(ledger).items() if entry.begun}
        for name, prompt in begun.items():
            fresh = (name, prompt.number) not in known
            known.add((name, prompt.number))
            if fresh and prompt.revision and prompt.lock is not None:
                lock = crew.folder.locks / prompt.lock
                for machine in machines.all_:
                    if machine.holds(lock):
                        return machine
        time.sleep(0.02)
