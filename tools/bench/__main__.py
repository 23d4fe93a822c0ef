"""Run the bench: print a table, write `output/bench.json` and draw `output/bench.png`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tools import environment
from tools.bench.results import assemble
from tools.bench.table import show_rows
from tools.inprocess import Pack, open_comfyui

PARTS = {
    "recurrence": "recurrence",
    "growth": "growth",
    "render": "render",
    "core": "core_sampler",
    "decode": "decode",
    "states": "states",
    "caches": "caches",
    "families": "families",
}
"""Module of every part that compares; they can be imported once ComfyUI is on the path."""
SPEED = {"speed": "speed"}
"""What is measured in frames per second: all there is on a graphics card."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen parts; the file then holds those and nothing older."""
    options = parse(arguments)
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            f"PyTorch {torch.__version__} finds no CUDA device here: run the bench without "
            "--device cuda, or on a machine that has one."
        )
    torch.set_num_threads(options.threads)
    open_comfyui(device=options.device)
    pack = Pack()
    parts = {n: importlib.import_module(f"tools.bench.{m}") for n, m in options.parts.items()}
    results = {
        name: part.measure(pack, part.SMALL if options.small else part.FULL)
        for name, part in parts.items()
    }
    result = report(_setting(options, torch.__version__), parts, results)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{options.output}")
    from tools.bench.chart import draw

    for path in (options.output.with_suffix(".png"), options.chart):
        if path is not None:
            draw(result).save(path, optimize=True)
            print(path)


def report(
    setting: dict[str, Any], parts: dict[str, ModuleType], results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Print tables and what is behind them; return the content of the file."""
    rows = {name: part.rows(results[name]) for name, part in parts.items()}
    for name, part in parts.items():
        show_rows(name.capitalize(), rows[name])
        for note in part.notes(results[name]):
            print(f"  {note}")
    every = [row for each in rows.values() for row in each]
    missed = [row.name for row in every if row.missed]
    print(f"\n{len(every) - len(missed)} of {len(every)} targets met", end="")
    print(f"; missed: {', '.join(missed)}" if missed else "")
    return assemble(setting, results, rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `parts` comes out in their order, each once, with its module."""
    parser = argparse.ArgumentParser(prog="tools.bench", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch threads, 1 by default")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: frames per second"
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=(*PARTS, *SPEED),
        help="parts to run, all that compare by default",
    )  # fmt: skip
    parser.add_argument(
        "--small", action="store_true", help="tiny sizes: whether it runs, not what it costs"
    )
    parser.add_argument("--output", type=Path, help="the JSON file; the chart goes beside it")
    parser.add_argument("--chart", type=Path, help="another file for the chart")
    options = parser.parse_args(arguments)
    known = SPEED if options.device == "cuda" else {**PARTS, **SPEED}
    default = SPEED if options.device == "cuda" else PARTS
    if unknown := [name for name in options.only or () if name not in known]:
        parser.error(f"on a graphics card there is speed alone, not {', '.join(unknown)}")
    options.parts = {n: m for n, m in known.items() if n in (options.only or default)}
    if options.output is None:
        name = "bench-small.json" if options.small else "bench.json"
        options.output = environment.ROOT / "output" / name
    return options


def _setting(options: argparse.Namespace, torch_version: str) -> dict[str, Any]:
    return {
        "device": options.device, "threads": options.threads, "small": options.small,
        "torch": torch_version, "python": platform.python_version(),
        "machine": platform.machine(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
