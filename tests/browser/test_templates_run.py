"""Every template that needs no downloads: opened, queued from the page and finished."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor

ROOT = Path(__file__).parents[2]
GENERATORS = ("AdaStateStream", "AdaStateStreamTimeline", "AdaStateRender")

pytestmark = pytest.mark.browser


def saved(path: Path) -> list[dict[str, Any]]:
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    return [dict(node) for node in nodes]


def kinds(path: Path) -> set[str]:
    return {node["type"] for node in saved(path)}


RUNNABLE = sorted(
    path.stem for path in (ROOT / "workflows").glob("*.json") if "AdaStateLoadDemo" in kinds(path)
)
_seeds = itertools.count(1000)


def shorten(editor: Editor, name: str, chunks: int = 2, steps: int = 4) -> None:
    """Make a template short, and with a seed that no test before it had."""
    there = kinds(ROOT / "workflows" / f"{name}.json")
    for kind in there.intersection(GENERATORS):
        editor.set(kind, chunks=chunks, seed=next(_seeds))
    if "BasicScheduler" in there:
        editor.set("BasicScheduler", steps=steps)


@pytest.mark.parametrize("name", RUNNABLE)
def test_template_runs(editor: Editor, name: str) -> None:
    editor.open(name)
    shorten(editor, name)
    editor.run()
    assert editor.failed_nodes() == []
    editor.page.wait_for_timeout(1000)
    editor.shoot(name)
