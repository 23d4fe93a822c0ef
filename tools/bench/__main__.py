"""Run the bench, print tables and write `output/bench.json`."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from typing import Any

from tools import host
from tools.inprocess import Pack, open_comfyui

PARTS = {
    "recurrence": "recurrence",
    "core": "core_sampler",
    "families": "families",
    "states": "states",
}
"""Module of every part; they can be imported once ComfyUI is on the path."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen parts; the file then holds those and nothing older."""
    options = parse(arguments)
    open_comfyui()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    pack = Pack()
    result: dict[str, Any] = {
        "setting": {
            "dtype": "float32", "torch": torch.__version__, "threads": torch.get_num_threads(),
        },
    }  # fmt: skip
    parts = {name: importlib.import_module(f"tools.bench.{PARTS[name]}") for name in options.only}
    for name, part in parts.items():
        result[name] = part.measure(pack)
    for name, part in parts.items():
        part.report(result[name])
    target = host.ROOT / "output" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{target}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `only` comes out in the order of the parts, each once."""
    parser = argparse.ArgumentParser(prog="tools.bench", description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves them")
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=PARTS, help="parts to run, all by default"
    )
    options = parser.parse_args(arguments)
    options.only = [name for name in PARTS if name in (options.only or PARTS)]
    return options


if __name__ == "__main__":
    main()
