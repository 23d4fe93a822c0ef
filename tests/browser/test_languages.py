"""The page in another language: nodes, their help, the sidebar and menus speak it too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor

ROOT = Path(__file__).parents[2]
LANGUAGES = sorted(path.name for path in (ROOT / "locales").iterdir() if path.name != "en")
KIND = "AdaStateStreamTimeline"

pytestmark = pytest.mark.browser

READY = "window.app?.isGraphReady && app.extensionManager?.workflow?.activeWorkflow"
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


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, editor: Editor) -> Iterator[str]:
    """Set the page to a language and open it again; the next page is in English."""
    change = "(language) => app.extensionManager.setting.set('Comfy.Locale', language)"
    editor.page.evaluate(change, request.param)
    editor.page.reload()
    editor.page.wait_for_function(READY, timeout=120_000)
    # A language without help pages of its own shows those in English.
    editor.expect(rf"404 .*/docs/\w+/{request.param}\.md")
    yield str(request.param)
    editor.page.evaluate(change, "en")


def words(language: str, name: str) -> dict[str, Any]:
    file = ROOT / "locales" / language / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def test_nodes_help_and_sidebar_in_another_language(editor: Editor, language: str) -> None:
    node, page = words(language, "nodeDefs")[KIND], editor.page
    editor.open("03 Stream a timeline")
    shown = page.evaluate(LABELS, KIND)
    assert shown["title"] == node["display_name"]
    assert shown["outputs"] == [each["name"] for each in node["outputs"].values()]
    for name in ("timeline", "cfg", "seed", "chunks", "fps", "seconds"):
        assert shown["widgets"][name] == node["inputs"][name]["name"]
    editor.shoot(f"language-{language}")

    page.evaluate(LONE, "AdaStateApply")
    page.get_by_test_id("info-button").click()
    translated = ROOT / "web" / "docs" / "AdaStateApply" / f"{language}.md"
    source = translated if translated.exists() else ROOT / "web" / "docs" / "AdaStateApply.md"
    heading = source.read_text("utf-8").split("\n")[0].removeprefix("# ")
    page.get_by_role("heading", name=heading, exact=True, level=1).wait_for()
    picture = page.locator("img[src$='anchors.png']")
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    editor.shoot(f"language-{language}-help", fit=False)

    editor.command("AdaState.OpenStreams")
    said = words(language, "main")["adastate"]
    page.get_by_placeholder(said["Search names and prompts"]).wait_for()
    editor.shoot(f"language-{language}-streams", fit=False)
