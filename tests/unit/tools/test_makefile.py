"""What `make` starts: every target hands its command on as `tools/environment.py` reads it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TARGETS = re.compile(r"^\.PHONY: (.+)$", re.MULTILINE)
STARTED = re.compile(r"tools/environment\.py (?:setup --dev|run (?:--dev )?-- -m [a-z._]+( |$))")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_every_target_starts_a_module(repository: Path) -> None:
    (names,) = TARGETS.findall((repository / "Makefile").read_text("utf-8"))
    for target in names.split():
        done = subprocess.run(
            ["make", "-n", target], cwd=repository, capture_output=True, text=True, check=True
        )
        started = [line for line in done.stdout.splitlines() if "environment.py" in line]
        assert started or target in ("help", "clean"), target
        assert all(STARTED.search(line) for line in started), (target, started)
