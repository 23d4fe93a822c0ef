"""What users get runs on the oldest Python that the pack supports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OLDEST = "3.10"
SHIPPED = ("__init__.py", "adastate_core", "adastate_comfy", "nodes", "tools")
CONFIG = """
[mypy]
explicit_package_bases = true
namespace_packages = true
follow_imports = skip
ignore_missing_imports = true
"""
# Runs on that Python, which has none of the pack's requirements: what it can find out is whether
# the syntax and the names that are taken from the standard library are there.
READ = """
import ast, pathlib, sys
newest = set(sys.argv[1].split())
for file in sys.argv[2:]:
    tree = ast.parse(pathlib.Path(file).read_text(encoding="utf-8"), file)
    compile(tree, file, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            named = [node.module]
        else:
            continue
        roots = {name.partition(".")[0] for name in named}
        if roots <= newest:
            try:
                exec(compile(ast.Module([node], []), file, "exec"))
            except ModuleNotFoundError:
                if not roots <= sys.stdlib_module_names:  # else one of another system
                    raise
"""


def findings(repository: Path, scratch: Path, version: str) -> set[str]:
    """Return what a type checker set to a version of Python says of the files."""
    config = scratch / "mypy.ini"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", f"--python-version={version}"]
    options = [f"--config-file={config}", f"--cache-dir={scratch / version}", "--no-error-summary"]
    done = subprocess.run(
        [*command, *options, *SHIPPED], cwd=repository, capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return {line for line in done.stdout.splitlines() if ": error:" in line}


@pytest.mark.slow
def test_nothing_is_used_that_the_oldest_python_lacks(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    newest = f"{sys.version_info.major}.{sys.version_info.minor}"
    lacking = findings(repository, tmp_path, OLDEST) - findings(repository, tmp_path, newest)
    assert not lacking, "\n".join(sorted(lacking))


def test_the_oldest_python_is_the_one_that_is_declared(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={OLDEST}"' in text
    assert re.search(rf'^python_version = "{re.escape(OLDEST)}"', text, re.MULTILINE)


def test_the_oldest_python_reads_every_file(repository: Path) -> None:
    python = interpreter()
    if python is None:
        pytest.skip(f"there is no Python {OLDEST} on this machine")
    files = [
        str(file)
        for name in SHIPPED
        for file in (
            [repository / name] if name.endswith(".py") else (repository / name).rglob("*.py")
        )
    ]
    # Neither folder of the repository may stand for a module of the standard library.
    command = [str(python), "-I", "-c", READ, " ".join(sys.stdlib_module_names), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def interpreter() -> Path | None:
    """Find the oldest Python: on the path, or among the versions that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*kept.glob(f"{OLDEST}*/bin/python"), shutil.which(f"python{OLDEST}")]
    for python in filter(None, found):
        said = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        if said.stdout.startswith(f"Python {OLDEST}."):
            return Path(python)
    return None
