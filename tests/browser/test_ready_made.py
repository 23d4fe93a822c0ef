"""What comes ready-made, as the page shows it: templates that can be read, cards that move."""

from __future__ import annotations

import io
import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests.support.editor import Editor
from tests.support.shipped import OPENED

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
READABLE = 0.572
"""Below this scale the classic renderer leaves out all text, at its default setting."""

pytestmark = pytest.mark.browser

_OPEN = """async (text) => {
    await app.loadGraphData(JSON.parse(text), true, true, "ready", { openSource: "template" });
}"""
_NOTE = """() => {
    const { ds, canvas } = app.canvas;
    const note = app.graph.nodes.find((node) => node.type === "MarkdownNote");
    const at = (place, axis) => (place + ds.offset[axis]) * ds.scale;
    return {
        scale: ds.scale,
        left: at(note.pos[0], 0),
        top: at(note.pos[1], 1),
        right: at(note.pos[0] + note.size[0], 0),
        seen: [canvas.clientWidth, canvas.clientHeight],
    };
}"""
_WIDGETS = "() => app.graph.nodes[0].widgets.map((widget) => [widget.name, widget.value])"
_PROMPT = "async () => (await app.graphToPrompt()).output"
_CARD = """(url) => {
    const card = document.createElement("img");
    card.id = "card-under-test";
    card.style.cssText = "position: fixed; left: 0; top: 0; z-index: 99999";
    card.src = url;
    document.body.append(card);
    return card.decode();
}"""


def test_templates_open_with_their_notes_in_view(editor: Editor, subtests: Any) -> None:
    page = editor.page
    for name in OPENED:
        with subtests.test(name):
            page.evaluate(_OPEN, (ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
            page.wait_for_timeout(700)
            note = page.evaluate(_NOTE)
            assert note["scale"] >= READABLE
            assert note["left"] > 0
            assert note["top"] > 0
            assert note["right"] < note["seen"][0]


def test_blueprints_are_one_node_with_its_widgets(editor: Editor, subtests: Any) -> None:
    for name in BLUEPRINTS:
        with subtests.test(name):
            check_blueprint(editor.page, ROOT / "subgraphs" / f"{name}.json")


def check_blueprint(page: Any, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    page.evaluate(_OPEN, text)
    saved = json.loads(text)
    (node,) = saved["nodes"]
    names = [entry["name"] for entry in node["inputs"] if "widget" in entry]
    shown = page.evaluate(_WIDGETS)
    assert shown == [list(pair) for pair in zip(names, node["widgets_values"], strict=True)]
    inside = saved["definitions"]["subgraphs"][0]["nodes"]
    queued = page.evaluate(_PROMPT)
    kinds = sorted(n["type"] for n in inside if n["type"] != "MarkdownNote")
    assert sorted(entry["class_type"] for entry in queued.values()) == kinds


def test_cards_move(editor: Editor) -> None:
    """They have the name that the page asks for, and another content than it says."""
    page = editor.page
    for name in TEMPLATES:
        url = f"/api/workflow_templates/adastate/{urllib.parse.quote(name)}.jpg"
        page.evaluate(_CARD, url)
        card = page.locator("#card-under-test")
        assert moves(card), name
        page.evaluate("() => document.getElementById('card-under-test').remove()")


def moves(card: Any) -> bool:
    """Look at a picture until it has changed, for some seconds at most."""
    first = shot(card)
    for _ in range(10):
        card.page.wait_for_timeout(200)
        if ImageChops.difference(first, shot(card)).getbbox():
            return True
    return False


def shot(card: Any) -> Image.Image:
    return Image.open(io.BytesIO(card.screenshot())).convert("RGB")
