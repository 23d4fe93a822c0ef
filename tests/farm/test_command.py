"""The command line, as far as it needs no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.__main__ import ledger_path, main
from farm.jobs import read_jobs
from farm.ledger import Ledger

SAVES = {"1": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "video"}}}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Return a list of one job, made twice."""
    path = tmp_path / "jobs.jsonl"
    path.write_text(json.dumps({"name": "walk", "workflow": SAVES, "times": 2}))
    return path


def done(path: Path, numbers: tuple[int, ...]) -> None:
    (job,) = read_jobs(path)
    with Ledger(ledger_path(path)) as ledger:
        ledger.entry(job.name, job.digest)
        for number in numbers:
            ledger.done(job.name, number, 0, ())


def test_what_is_done_is_not_begun_again(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done(listed, (0, 1))
    summary = listed.with_suffix(".summary.json")
    summary.write_text("of the run that made it")
    # Nobody listens there: whoever asked for a cluster would fail.
    arguments = ["run", str(listed), "--output", str(listed.parent), "--address", "127.0.0.1:1"]
    assert main(arguments) == 0
    assert "nothing is left to make" in capsys.readouterr().out
    assert summary.read_text() == "of the run that made it"


def test_status_counts_what_is_done(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(listed)]) == 0
    assert "0 of 2 prompts are done" in capsys.readouterr().out
    done(listed, (1,))
    assert main(["status", str(listed)]) == 0
    assert "1 of 2 prompts are done" in capsys.readouterr().out


def test_a_list_that_cannot_be_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path / "none.jsonl")]) == 1
    assert "The list of jobs" in capsys.readouterr().err
