"""The shipped workflows, as browser tests run them: short, and never with a seed used before."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tests.support.editor import Editor

FOLDER = Path(__file__).parents[2] / "workflows"
GENERATORS = ("AdaStateStream", "AdaStateStreamTimeline", "AdaStateRender")
SIZE = 64
"""Width and height of their videos, a quarter of the work of those that they ship with."""
_seeds = itertools.count(1000)


def kinds(name: str) -> set[str]:
    """Return the types of the nodes of a shipped workflow."""
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return {node["type"] for node in workflow["nodes"]}


RUNNABLE = sorted(p.stem for p in FOLDER.glob("*.json") if "AdaStateLoadDemo" in kinds(p.stem))
"""Those that need no downloads."""


def with_node(kind: str) -> str:
    """Return the first of them that has a node of a type."""
    return next(name for name in RUNNABLE if kind in kinds(name))


def open_short(editor: Editor, name: str, chunks: int = 2, steps: int = 2) -> None:
    """Open a shipped workflow, and make it short and small."""
    editor.open(name)
    there = kinds(name)
    for kind in there.intersection(GENERATORS):
        editor.set(kind, chunks=chunks, seed=next(_seeds))
    if "EmptyHunyuanLatentVideo" in there:
        editor.set("EmptyHunyuanLatentVideo", width=SIZE, height=SIZE)
    if "BasicScheduler" in there:
        editor.set("BasicScheduler", steps=steps)
