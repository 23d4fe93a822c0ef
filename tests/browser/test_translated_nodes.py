"""Nodes and their help pages in another language, as the page is set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor

ROOT = Path(__file__).parents[2]
LANGUAGE = "zh"
KIND = "AdaStateStreamTimeline"

pytestmark = pytest.mark.browser

LABELS = """(kind) => {
    const node = app.graph.nodes.find((each) => each.type === kind);
    return {
        title: node.title,
        widgets: Object.fromEntries(node.widgets.map((each) => [each.name, each.label])),
        outputs: node.outputs.map((each) => each.label || each.localized_name),
    };
}"""
LONE = """(kind) => {
    app.graph.clear();
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [600, 400];
    app.canvas.selectNode(node);
}"""


@pytest.fixture
def translated(editor: Editor, speak: Callable[[str], None]) -> Editor:
    """Return the page in another language."""
    speak(LANGUAGE)
    return editor


def test_nodes_and_their_help_in_another_language(translated: Editor) -> None:
    page = translated.page
    defs = json.loads((ROOT / "locales" / LANGUAGE / "nodeDefs.json").read_text("utf-8"))
    node: dict[str, Any] = defs[KIND]
    translated.open("03 Stream a timeline")
    shown = page.evaluate(LABELS, KIND)
    assert shown["title"] == node["display_name"]
    assert shown["outputs"] == [each["name"] for each in node["outputs"].values()]
    for name in ("timeline", "cfg", "seed", "chunks", "fps", "seconds"):
        assert shown["widgets"][name] == node["inputs"][name]["name"]
    translated.shoot()

    page.evaluate(LONE, "AdaStateApply")
    page.get_by_test_id("info-button").click()
    text = (ROOT / "web" / "docs" / "AdaStateApply" / f"{LANGUAGE}.md").read_text("utf-8")
    heading = text.split("\n")[0].removeprefix("# ")
    page.get_by_role("heading", name=heading, exact=True, level=1).wait_for()
    # Pictures are looked for beside the English page, whatever the language.
    picture = page.locator("img[src$='anchors.png']")
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    translated.shoot("translated-help", fit=False)
