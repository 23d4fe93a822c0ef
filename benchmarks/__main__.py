"""Run the bench: print a table, write `output/bench.json` and draw `output/bench.png`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from benchmarks.harness import Measured, Part, assemble, show
from tools import environment
from tools.inprocess import open_comfyui

PARTS = {
    "recurrence": "overhead.Recurrence",
    "growth": "growth.Growth",
    "render": "render.Render",
    "alongside": "alongside.Alongside",
    "core": "core_sampler.Core",
    "decode": "decode.Decode",
    "states": "states.States",
    "caches": "caches.Caches",
    "families": "overhead.Families",
    "pictures": "pictures.Pictures",
    "gaps": "gaps.Gaps",
    "farm": "farm.Farm",
}
"""Class of every part that compares; imported once ComfyUI is on the path."""
SMALL = {
    "apart": False,
    "chunks": 3,
    "dim": 128,
    "families": ("wan 2.1",),
    "feed_forward": 256,
    "few": 4,
    "frames": 6,
    "late": 12,
    "layers": 1,
    "long": 4,
    "many": 8,
    "pairs": 2,
    "prompts": 2,
    "replayed": 3,
    "rounds": {21: 1, 168: 1},
    "short": 2,
    "size": (4, 4),
    "sleepers": 4,
    "steps": 1,
    "streams": 2,
    "tasks": 16,
    "text_tokens": 8,
    "vae_dim": 8,
    "warm_up": 1,
}
"""Sizes of `--small`, in every part that has one of that name."""
SPEED = {
    "speed": "speed.Speed",
    "rendering": "alongside.AlongsideAtRealSize",
    "card": "card.Card",
    "long": "card.Long",
    "larger": "card.Larger",
}
"""What is measured at real size: all there is on a graphics card."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the chosen parts; the file then holds those and nothing older."""
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            f"PyTorch {torch.__version__} finds no CUDA device here: run the bench without "
            "--device cuda, or on a machine that has one."
        )
    torch.set_num_threads(options.threads)
    open_comfyui(device=options.device)
    results: dict[str, Measured] = {}
    for name, part in options.parts.items():
        print(f"measuring {name}", flush=True)
        results[name] = _open(part, small=options.small).measure()
    for name, measured in results.items():
        show(name.capitalize(), measured)
    rows = [row for measured in results.values() for row in measured.rows]
    missed = [row.name for row in rows if row.missed]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} targets met", end="")
    print(f"; missed: {', '.join(missed)}" if missed else "")
    setting = {name: getattr(options, name) for name in ("device", "threads", "small")}
    setting |= {"torch": torch.__version__, "python": platform.python_version()}
    result = assemble({**setting, "machine": platform.machine()}, results)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\n{options.output}")
    from benchmarks.chart import draw  # not before all is measured, memory above all

    for path in (options.output.with_suffix(".png"), options.chart):
        if path is not None:
            draw(result).savefig(path)
            print(path)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `parts` comes out in their order, each once, with its class."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch threads, 1 by default")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: what there is at real size"
    )
    names, text = (*PARTS, *SPEED), "parts to run, all that compare by default"
    parser.add_argument("--only", nargs="+", action="extend", choices=names, help=text)
    parser.add_argument(
        "--small", action="store_true", help="tiny sizes: whether it runs, not what it costs"
    )
    parser.add_argument("--output", type=Path, help="the JSON file; the chart goes beside it")
    parser.add_argument("--chart", type=Path, help="another file for the chart")
    options = parser.parse_args(arguments)
    known = SPEED if options.device == "cuda" else {**PARTS, **SPEED}
    default = SPEED if options.device == "cuda" else PARTS
    if unknown := [name for name in options.only or () if name not in known]:
        parser.error(f"on a graphics card there is {', '.join(SPEED)}, not {', '.join(unknown)}")
    options.parts = {n: m for n, m in known.items() if n in (options.only or default)}
    if options.output is None:
        name = "bench-small.json" if options.small else "bench.json"
        options.output = environment.ROOT / "output" / name
    return options


def _open(name: str, *, small: bool) -> Part:
    module, kind = name.split(".")
    part = getattr(importlib.import_module(f"benchmarks.{module}"), kind)
    sizes = {**SMALL, "dim": 8} if kind == "Decode" else SMALL  # of a VAE, not of a DiT
    known = {field.name: sizes[field.name] for field in fields(part) if field.name in sizes}
    opened: Part = part(**known) if small else part()
    return opened


if __name__ == "__main__":
    main()
