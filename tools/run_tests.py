"""Run test tiers by nox, two at a time, and print what they counted.

python -m tools.run_tests unit nodes -- -k cache
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from noxfile import REPORTS, TIERS
from tools import environment

NAMES = (*(tier.name for tier in TIERS), "check")
ON_DEMAND = "browser"
"""How the tiers begin that run only when they are named."""


def counts(report: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped, by a report of pytest."""
    if not report.is_file():
        return 0, 0, 0
    # Written by our own pytest a moment ago.
    suite = ElementTree.parse(report).getroot()[0]  # noqa: S314
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped = int(suite.get("skipped", 0))
    return int(suite.get("tests", 0)) - failed - skipped, failed, skipped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tiers whose names begin with one of the given ones; all but the browser's without."""
    parser = argparse.ArgumentParser(prog="tools.run_tests", description=__doc__.split("\n")[0])
    parser.add_argument("tiers", nargs="*", help=f"any of {', '.join(NAMES)}")
    parser.epilog = "Arguments after -- are for pytest."
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options, for_pytest = parser.parse_args(given[:cut]), given[cut + 1 :]
    for name in options.tiers:
        if not any(known.startswith(name) for known in NAMES):
            parser.error(f"there is no tier {name}; known are {', '.join(NAMES)}")
    wanted = tuple(options.tiers)
    chosen = [n for n in NAMES if n.startswith(wanted or ON_DEMAND) == bool(wanted)]
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    told = REPORTS / "nox.json"
    command = [sys.executable, "-m", "nox", f"--report={told}", "--session", *chosen]
    # One tier alone is shown while it runs.
    command += [f"--parallel={min(2, len(chosen), os.cpu_count() or 1)}"]
    command += ["--", *for_pytest]
    code = subprocess.run(command, cwd=environment.ROOT, check=False).returncode
    print(f"\n{'tier':<22}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}")
    total = [0, 0]
    for tier in json.loads(told.read_text("utf-8"))["sessions"]:
        passed, failed, skipped = counts(REPORTS / f"{tier['name']}.xml")
        # Checks, and a pytest that broke off, count as one.
        if tier["result"] != "success":
            failed = failed or 1
        elif tier["name"] == "check":
            passed = 1
        print(f"{tier['name']:<22}{passed:>8}{failed:>8}{skipped:>9}{tier['duration']:>7.0f} s")
        total = [total[0] + passed, total[1] + failed]
    print(f"\n{total[0]} passed, {total[1]} failed", flush=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
