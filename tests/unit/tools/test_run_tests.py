"""Adding up what the tiers report."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import pytest

from tools import run_tests
from tools.run_tests import Outcome, Tier

REPORT = """<?xml version="1.0"?><testsuites>
<testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10"/></testsuites>"""


def read(tmp_path: Path, text: str | None, code: int) -> Outcome:
    report = tmp_path / "report.xml"
    if text:
        report.write_text(text)
    return run_tests._read_report(report, code)


def test_counts_come_from_the_report(tmp_path: Path) -> None:
    assert read(tmp_path, REPORT, 1) == Outcome(passed=4, failed=3, skipped=3)


def test_a_crash_without_a_report_counts_as_a_failure(tmp_path: Path) -> None:
    outcome = read(tmp_path, None, 4)
    assert (outcome.failed, outcome.note) == (1, "pytest ended with code 4 and no report")


def test_a_failing_run_with_a_clean_report_counts_as_a_failure(tmp_path: Path) -> None:
    clean = '<testsuites><testsuite errors="0" failures="0" skipped="0" tests="2"/></testsuites>'
    assert read(tmp_path, clean, 3).failed == 1


def test_nothing_selected_is_no_failure(tmp_path: Path) -> None:
    assert read(tmp_path, None, 5) == Outcome(note="no tests")


def test_a_tier_without_tests_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_tests.host, "ROOT", tmp_path)
    assert Tier("gone", "tests/gone").run([]).failed == 1


def test_a_tier_that_collects_nothing_is_a_failure_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_tests.host, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text("def test_it():\n    pass\n")
    tier = Tier("one", "tests")
    assert tier.run([]).passed == 1
    assert tier.run(["-k", "other"]) == Outcome(note="no tests")
    (tmp_path / "tests" / "test_it.py").write_text("")
    assert tier.run([]).failed == 1


def test_tiers_are_chosen_by_the_beginning_of_their_names() -> None:
    assert [t.name for t in run_tests._select(["nodes"])] == ["nodes-0.30.0", "nodes-0.27.0"]
    assert len(run_tests._select([])) == len(run_tests.TIERS)
    with pytest.raises(SystemExit, match="no test tier nope"):
        run_tests._select(["nope"])


def test_closing_line_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Fixed:
        def __init__(self, name: str, passed: int, failed: int) -> None:
            self.name, self._outcome = name, Outcome(passed=passed, failed=failed)

        def run(self, arguments: object, output: TextIO | None = None) -> Outcome:
            print(f"this is {self.name}", file=output)
            return self._outcome

    monkeypatch.setattr(run_tests, "REPORTS", tmp_path)
    for jobs in ("1", "2"):
        monkeypatch.setattr(run_tests, "TIERS", (Fixed("one", 5, 0), Fixed("two", 7, 0)))
        assert run_tests.main(["--jobs", jobs]) == 0
        told = capsys.readouterr().out
        for name in ("one", "two"):
            assert f"== {name} ==\nthis is {name}\n" in told
        assert told.splitlines()[-1] == "12 passed, 0 failed"
    monkeypatch.setattr(run_tests, "TIERS", (Fixed("one", 5, 0), Fixed("two", 7, 0)))
    assert run_tests.main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "12 passed, 0 failed"
    monkeypatch.setattr(run_tests, "TIERS", (Fixed("one", 5, 0), Fixed("two", 7, 2)))
    assert run_tests.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "12 passed, 2 failed"
