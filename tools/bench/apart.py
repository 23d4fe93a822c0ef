"""A measurement in a process of its own, so that memory is that of one thing alone."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools import environment

_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""Tells glibc to return what is freed at once; else gaps in its heap decide where a peak lies."""


def run_apart(
    module: str, function: str, *, give_back: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Call a function of the bench in a new process that has opened ComfyUI, on the CPU.

    Args:
        module: Name of a module of the bench.
        function: A function of it, called with the pack and the arguments.
        give_back: Whether memory that is freed goes back to the system at once, which takes time
            but leaves in memory what is in use and nothing else.
        **arguments: What JSON can carry.

    Returns:
        What it returned, through JSON.

    Raises:
        RuntimeError: If the process failed; its own message is on the terminal.
    """
    import torch

    with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
        path = Path(folder) / "result.json"
        job = [str(path), str(torch.get_num_threads()), module, function, json.dumps(arguments)]
        command = [sys.executable, "-m", __name__, *job]
        variables = {**os.environ, "PYTHONPATH": str(environment.ROOT)}
        variables |= _GIVE_BACK if give_back else {}
        done = subprocess.run(command, env=variables, cwd=environment.ROOT, check=False)
        if done.returncode:
            raise RuntimeError(f"{module}.{function} failed in a process of its own")
        result: dict[str, Any] = json.loads(path.read_text())
        return result


def main() -> None:
    """Do one job, named on the command line by `run_apart`."""
    result, threads, module, function, arguments = sys.argv[1:]
    from tools.inprocess import Pack, open_comfyui

    open_comfyui()
    import torch

    torch.set_num_threads(int(threads))
    call = getattr(importlib.import_module(f"tools.bench.{module}"), function)
    Path(result).write_text(json.dumps(call(Pack(), **json.loads(arguments))))


if __name__ == "__main__":
    main()
