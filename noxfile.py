"""The test tiers and the static checks, as sessions of nox: `make test` and `make check`.

The tiers named `browser` need more than the others and run by `make test-browser` only.

The tiers need different import paths: the core is tested without ComfyUI, the nodes with ComfyUI's
root first on the path and this repository's root off it, because its `nodes` folder would hide
ComfyUI's `nodes.py`. They share one virtual environment, the one that `tools/environment.py` makes,
and every process computes on one core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import nox

from tools import environment
from tools.environment import FLOOR, PRIMARY

REPORTS = environment.CACHE / "reports"

nox.options.default_venv_backend = "none"

CHECKS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("tools.check_pack",),
)

_NO_TESTS_COLLECTED = 5  # pytest's exit code


@dataclass(frozen=True)
class Tier:
    """One test invocation: a folder, the ComfyUI it runs on, and the import path it needs."""

    name: str
    folder: str
    comfyui: str | None = None
    sees_repository: bool = True
    flags: Sequence[str] = ()

    def run(self, session: nox.Session) -> None:
        """Run pytest on the tier's folder; arguments after `--` are for pytest too."""
        session.run(
            *(sys.executable, "-m", "pytest", self.folder, "-q", *self.flags, *session.posargs),
            f"--junitxml={REPORTS / self.name}.xml",
            env={
                # Keeps `python -m` from putting the working directory, this folder, on the path.
                "PYTHONSAFEPATH": "1",
                "PYTHONPATH": str(environment.ROOT) if self.sees_repository else "",
                "COMFYUI_PATH": str(environment.tree_path(self.comfyui)) if self.comfyui else None,
                "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            },
            # Whoever selects tests may select none of a tier.
            success_codes=[0, _NO_TESTS_COLLECTED] if session.posargs else [0],
        )


# The longest first, so that no core waits for another at the end.
TIERS = (
    Tier(f"nodes-{PRIMARY}", "tests/nodes", PRIMARY, sees_repository=False),
    Tier(f"integration-{PRIMARY}", "tests/integration", PRIMARY),
    Tier(f"nodes-{FLOOR}", "tests/nodes", FLOOR, sees_repository=False),
    Tier("unit", "tests/unit"),
    Tier(f"integration-{FLOOR}", "tests/integration", FLOOR, flags=("-m", "floor")),
    Tier("farm", "tests/farm", PRIMARY),
    Tier("training", "tests/training", PRIMARY),
    Tier("browser-pinned", "tests/browser", PRIMARY, flags=("--page", "pinned")),
    Tier("browser-newest", "tests/browser", PRIMARY, flags=("--page", "newest")),
)
for _tier in TIERS:
    nox.session(name=_tier.name, allow_parallel=True)(_tier.run)


@nox.session(allow_parallel=True)
def check(session: nox.Session) -> None:
    """Run every static check, also after one that failed."""
    failed = []
    for command in CHECKS:
        try:
            session.run(sys.executable, "-m", *command)
        except nox.command.CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error(f"failed: {', '.join(failed)}")
