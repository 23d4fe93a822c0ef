"""Run the test tiers, each in its own process, and add up what they report.

The tiers need different import paths: the core is tested without ComfyUI, the nodes with ComfyUI's
root first on the path and this repository's root off it, because its `nodes` folder would hide
ComfyUI's `nodes.py`. Every process computes on one core, so two tiers run at a time where there are
two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

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

    def run(self, extra_arguments: Sequence[str], output: TextIO | None = None) -> Outcome:
        """Run pytest on the tier's folder and return the counts from its report.

        Args:
            extra_arguments: More arguments for pytest.
            output: Where its output goes, if not to the terminal.
        """
        folder = host.ROOT / self.folder
        if not any(folder.rglob("test_*.py")):
            return Outcome(failed=1, note="no tests in its folder")
        report = REPORTS / f"{self.name}.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", self.folder, "-q", f"--junitxml={report}"]
        command += [*self.pytest_arguments, *extra_arguments]
        code = subprocess.run(
            command, cwd=host.ROOT, env=self._environment(), check=False,
            stdout=output, stderr=output,
        )  # fmt: skip
        if code.returncode == _NO_TESTS_COLLECTED and not extra_arguments:
            return Outcome(failed=1, note="collected no tests")
        return _read_report(report, code.returncode)

    def _environment(self) -> Mapping[str, str]:
        environment = dict(os.environ)
        # Keeps `python -m` from putting the working directory, the repository's root, on the path.
        environment["PYTHONSAFEPATH"] = "1"
        environment["PYTHONPATH"] = str(host.ROOT) if self.sees_repository else ""
        environment.setdefault("OMP_NUM_THREADS", "1")
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

    def run(self, extra_arguments: Sequence[str], output: TextIO | None = None) -> Outcome:
        """Run every check, also after one failed."""
        outcome = Outcome()
        for command in self.commands:
            print(f"$ {' '.join(command)}", file=output, flush=True)
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=host.ROOT, check=False,
                stdout=output, stderr=output,
            )  # fmt: skip
            outcome.passed += done.returncode == 0
            outcome.failed += done.returncode != 0
        return outcome


# The longest first, so that no core waits for another at the end.
TIERS: tuple[Tier | Checks, ...] = (
    Tier(f"nodes-{host.PRIMARY}", "tests/nodes", host.PRIMARY, sees_repository=False),
    Tier(f"integration-{host.PRIMARY}", "tests/integration", host.PRIMARY),
    Tier(f"nodes-{host.FLOOR}", "tests/nodes", host.FLOOR, sees_repository=False),
    Tier(
        f"integration-{host.FLOOR}",
        "tests/integration",
        host.FLOOR,
        pytest_arguments=("-m", "floor"),
    ),
    Tier("unit", "tests/unit"),
    Tier("training", "tests/training", comfyui=host.PRIMARY),
    Checks(),
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


def _timed(tier: Tier | Checks, arguments: Sequence[str], output: TextIO | None) -> Outcome:
    begin = time.monotonic()
    outcome = tier.run(arguments, output)
    outcome.seconds = time.monotonic() - begin
    return outcome


def _run_all(
    tiers: Sequence[Tier | Checks], arguments: Sequence[str], jobs: int
) -> dict[str, Outcome]:
    """Run tiers, several at a time, and print what each has to say when it is done."""
    outcomes: dict[str, Outcome] = {}
    if jobs == 1 or len(tiers) == 1:
        for tier in tiers:
            print(f"\n== {tier.name} ==", flush=True)
            outcomes[tier.name] = _timed(tier, arguments, None)
        return outcomes
    with ThreadPoolExecutor(jobs) as pool:

        def run(tier: Tier | Checks) -> tuple[str, Outcome, str]:
            with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
                outcome = _timed(tier, arguments, output)
                output.seek(0)
                return tier.name, outcome, output.read()

        for done in as_completed([pool.submit(run, tier) for tier in tiers]):
            name, outcome, text = done.result()
            print(f"\n== {name} ==\n{text}", flush=True)
            outcomes[name] = outcome
    return {tier.name: outcomes[tier.name] for tier in tiers}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named tiers and print a table and one closing line."""
    parser = argparse.ArgumentParser(prog="tools.run_tests", description=__doc__.split("\n")[0])
    parser.add_argument("tiers", nargs="*", help="such as unit or nodes; default: all")
    parser.add_argument("--pytest", default="", help='more arguments for pytest, as in "-k cache"')
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="tiers at a time"
    )
    options = parser.parse_args(arguments)
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes = _run_all(_select(options.tiers), options.pytest.split(), options.jobs)
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
