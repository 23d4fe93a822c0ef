"""The shipped workflows, as browser tests run them: short, and never with a seed used before."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from tests.support.editor import Editor
from tools.export_api import LATER

FOLDER = Path(__file__).parents[2] / "workflows"
GENERATORS = ("AdaStateStream", "AdaStateStreamTimeline", "AdaStateRender")
SIZE = 64
"""Width and height of their videos, a quarter of the work of those that they ship with."""
_seeds = itertools.count(1000)


def kinds(name: str) -> set[str]:
    """Return the types of the nodes of a shipped workflow."""
    return {node["type"] for node in read(name)["nodes"]}


def read(name: str) -> dict[str, Any]:
    """Return a shipped workflow."""
    workflow: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return workflow


def boxes(name: str) -> list[dict[str, Any]]:
    """Return the subgraphs of a shipped workflow."""
    return list(read(name).get("definitions", {}).get("subgraphs", []))


def needs_no_downloads(name: str) -> bool:
    """Return whether a workflow, or a subgraph of it, loads the demo models."""
    nodes = [node for graph in (read(name), *boxes(name)) for node in graph["nodes"]]
    return any(node["type"] == "AdaStateLoadDemo" for node in nodes)


OPENED = sorted(p.stem for p in FOLDER.glob("*.json") if not kinds(p.stem).intersection(LATER))
RUNNABLE = [name for name in OPENED if needs_no_downloads(name)]


def with_node(kind: str) -> str:
    """Return the first of them that has a node of a type."""
    return next(name for name in RUNNABLE if kind in kinds(name))


def open_short(editor: Editor, name: str, chunks: int = 2, steps: int = 2) -> None:
    """Open a shipped workflow, and make it short and small."""
    editor.open(name)
    there = kinds(name)
    for box in boxes(name):
        editor.set(box["id"], seconds=1, width=SIZE, height=SIZE, seed=next(_seeds))
    for kind in there.intersection(GENERATORS):
        editor.set(kind, chunks=chunks, seed=next(_seeds))
    if "EmptyHunyuanLatentVideo" in there:
        editor.set("EmptyHunyuanLatentVideo", width=SIZE, height=SIZE)
    if "AdaStateOpenStream" in there:
        editor.set("AdaStateOpenStream", name=f"stream {next(_seeds)}")
    if "AdaStateTrainAdapter" in there:
        editor.set("AdaStateTrainAdapter", steps=2, resume=False)
    if "BasicScheduler" in there:
        editor.set("BasicScheduler", steps=steps)
