"""Run the test tiers, each in its own process, and add up what they report.

The tiers need different import paths: the core is tested without ComfyUI, the nodes with ComfyUI's
root first on the path and this repository's root off it, because its `nodes` folder would hide
ComfyUI's `nodes.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools import host

REPORTS = host.CACHE / "reports"

_NO_TESTS_COLLECTED = 5  # pytest's exit code


@dataclass
class Outcome:
    """What one tier did."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Tier:
    """One test invocation: a folder, the ComfyUI it runs on, and the import path it needs."""

    name: str
    folder: str
    comfyui: str | None = None
    sees_repository: bool = True
    pytest_arguments: Sequence[str] = field(default_factory=tuple)

    def run(self, extra_arguments: Sequence[str]) -> Outcome:
        """Run pytest on the tier's folder and return the counts from its report."""
        folder = host.ROOT / self.folder
        if not any(folder.rglob("test_*.py")):
            return Outcome(failed=1, note="no tests in its folder")
        report = REPORTS / f"{self.name}.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", self.folder, "-q", f"--junitxml={report}"]
        command += [*self.pytest_arguments, *extra_arguments]
        code = subprocess.run(command, cwd=host.ROOT, env=self._environment(), check=False)
        if code.returncode == _NO_TESTS_COLLECTED and not extra_arguments:
            return Outcome(failed=1, note="collected no tests")
        return _read_report(report, code.returncode)

    def _environment(self) -> Mapping[str, str]:
        environment = dict(os.environ)
        # Keeps `python -m` from putting the working directory, the repository's root, on the path.
        environment["PYTHONSAFEPATH"] = "1"
        environment["PYTHONPATH"] = str(host.ROOT) if self.sees_repository else ""
        environment.pop("COMFYUI_PATH", None)
        if self.comfyui:
            environment["COMFYUI_PATH"] = str(host.tree_path(self.comfyui))
        return environment


@dataclass(frozen=True)
class Checks:
    """The static checks, counted like tests."""

    name: str = "check"
    commands: Sequence[Sequence[str]] = (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
    )

    def run(self, extra_arguments: Sequence[str]) -> Outcome:
        """Run every check, also after one failed."""
        outcome = Outcome()
        for command in self.commands:
            print(f"$ {' '.join(command)}", flush=True)
            done = subprocess.run([sys.executable, "-m", *command], cwd=host.ROOT, check=False)
            outcome.passed += done.returncode == 0
            outcome.failed += done.returncode != 0
        return outcome


TIERS: tuple[Tier | Checks, ...] = (
    Checks(),
    Tier("unit", "tests/unit"),
    Tier("training", "tests/training", comfyui=host.PRIMARY),
    Tier(f"nodes-{host.PRIMARY}", "tests/nodes", host.PRIMARY, sees_repository=False),
    Tier(f"nodes-{host.FLOOR}", "tests/nodes", host.FLOOR, sees_repository=False),
    Tier(f"integration-{host.PRIMARY}", "tests/integration", host.PRIMARY),
    Tier(
        f"integration-{host.FLOOR}",
        "tests/integration",
        host.FLOOR,
        pytest_arguments=("-m", "floor"),
    ),
)


def _read_report(report: Path, code: int) -> Outcome:
    if code == _NO_TESTS_COLLECTED:
        return Outcome(note="no tests")
    if not report.is_file():
        return Outcome(failed=1, note=f"pytest ended with code {code} and no report")
    outcome = Outcome()
    # Written by our own pytest a moment ago.
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        outcome.failed += failed
        outcome.skipped += skipped
        outcome.passed += int(suite.get("tests", 0)) - failed - skipped
    if code and not outcome.failed:
        outcome.failed, outcome.note = 1, f"pytest ended with code {code}"
    return outcome


def _select(names: Sequence[str]) -> list[Tier | Checks]:
    """Return the tiers whose names begin with one of the given ones, all without names."""
    for name in names:
        if not any(tier.name.startswith(name) for tier in TIERS):
            known = ", ".join(tier.name for tier in TIERS)
            raise SystemExit(f"There is no test tier {name}; known are {known}.")
    return [tier for tier in TIERS if not names or tier.name.startswith(tuple(names))]


def _timed(run: Callable[[Sequence[str]], Outcome], arguments: Sequence[str]) -> Outcome:
    begin = time.monotonic()
    outcome = run(arguments)
    outcome.seconds = time.monotonic() - begin
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named tiers and print a table and one closing line."""
    parser = argparse.ArgumentParser(prog="tools.run_tests", description=__doc__.split("\n")[0])
    parser.add_argument("tiers", nargs="*", help="such as unit or nodes; default: all")
    parser.add_argument("--pytest", default="", help='more arguments for pytest, as in "-k cache"')
    options = parser.parse_args(arguments)
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    for tier in _select(options.tiers):
        print(f"\n== {tier.name} ==", flush=True)
        outcomes[tier.name] = _timed(tier.run, options.pytest.split())
    print(f"\n{'tier':<22}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}")
    for name, outcome in outcomes.items():
        counts = f"{outcome.passed:>8}{outcome.failed:>8}{outcome.skipped:>9}"
        print(f"{name:<22}{counts}{outcome.seconds:>7.1f} s  {outcome.note}".rstrip())
    passed = sum(outcome.passed for outcome in outcomes.values())
    failed = sum(outcome.failed for outcome in outcomes.values())
    print(f"\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
