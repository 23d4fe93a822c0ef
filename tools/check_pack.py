"""Check types and import rules of the pack, seen as the one package that ComfyUI loads it as.

The repository's root is itself a package whose name is its folder's, and its parts import each
other relatively. So a folder is made in which the root has a fixed name, with links to its parts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tools import environment

NAME = "adastate_pack"
PARTS = ("__init__.py", "nodes", "adastate_comfy", "adastate_core")
RULES = environment.ROOT / "tools" / "import_rules.ini"


def make_view(folder: Path) -> None:
    """Make a folder with the pack under its fixed name."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / NAME).mkdir(parents=True)
    for part in PARTS:
        source, link = environment.ROOT / part, folder / NAME / part
        try:
            link.symlink_to(source)
        except OSError:  # Windows without the privilege to make links
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, link)


def check_types(view: Path) -> bool:
    """Say whether the pack passes mypy."""
    command = [sys.executable, "-m", "mypy", f"--cache-dir={environment.CACHE / 'mypy'}"]
    command += [f"--config-file={environment.ROOT / 'pyproject.toml'}", "--package", NAME]
    found = {**os.environ, "MYPYPATH": str(view)}
    return subprocess.run(command, cwd=view, env=found, check=False).returncode == 0


def check_imports(view: Path) -> bool:
    """Say whether imports of the pack go downwards only."""
    os.chdir(view)  # from which the linter imports what it reads
    return lint_imports(config_filename=str(RULES), no_cache=True) == EXIT_STATUS_SUCCESS


def main() -> int:
    """Run both checks; return 0 if the pack passes."""
    view = environment.CACHE / "pack"
    make_view(view)
    passed = [check_types(view), check_imports(view)]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
