"""The examples of the core are true: those in docstrings, and the script that streams a model."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import adastate_core

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(adastate_core.__path__, "adastate_core.")
]
EXAMPLES = [
    example
    for module in MODULES
    for example in doctest.DocTestFinder(exclude_empty=True).find(module)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_docstring_is_true(example: doctest.DocTest) -> None:
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert result.failed == 0, "".join(said)


def test_script_streams_a_model(repository: Path) -> None:
    """Run it as its reader does, who has set no import path."""
    paths = ("PYTHONPATH", "PYTHONSAFEPATH")
    done = subprocess.run(
        [sys.executable, Path("docs", "examples", "stream_reference_model.py")],
        cwd=repository,
        env={name: value for name, value in os.environ.items() if name not in paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert "next chunk 6" in lines[-1]
    # The cache is full after four chunks, and does not grow with the stream.
    assert lines[-1].rpartition("KV cache")[2] == lines[-2].rpartition("KV cache")[2]
