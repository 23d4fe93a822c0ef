"""What an artist sees: workflows open in both renderers, help pages show, templates are listed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.shipped import OPENED

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))

pytestmark = pytest.mark.browser

OPEN = """async (name) => {
    const url = `/api/workflow_templates/adastate/${encodeURIComponent(name)}.json`;
    await app.loadGraphData(await (await fetch(url)).json(), true, true, name);
    return app.graph.serialize();
}"""


def test_workflows_open_unchanged(page: Any, subtests: Any) -> None:
    for name in OPENED:
        with subtests.test(name):
            check_unchanged(page, name)
    assert not page.problems


def check_unchanged(page: Any, name: str) -> None:
    shown = page.evaluate(OPEN, name)
    saved = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    assert {node["type"] for node in shown["nodes"]} == {node["type"] for node in saved["nodes"]}
    assert len(shown["links"]) == len(saved["links"])
    assert len(shown["groups"]) == len(saved["groups"])
    values = {node["id"]: node.get("widgets_values") or [] for node in shown["nodes"]}
    for node in saved["nodes"]:
        kept = len(node["widgets_values"])
        assert values[node["id"]][:kept] == node["widgets_values"], node["type"]


def test_help_pages_show_with_their_pictures(page: Any) -> None:
    for path in PAGES:
        page.evaluate(
            """(type) => {
                app.graph.clear();
                const node = LiteGraph.createNode(type);
                app.graph.add(node);
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset = [600, 400];
                app.canvas.selectNode(node);
            }""",
            path.stem,
        )
        page.get_by_test_id("info-button").click()
        text = path.read_text(encoding="utf-8")
        heading = text.split("\n")[0].removeprefix("# ")
        page.get_by_role("heading", name=heading, exact=True, level=1).wait_for()
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            shown = page.locator(f"img[src$='{picture}']")
            shown.wait_for()
            assert shown.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    assert not page.problems
