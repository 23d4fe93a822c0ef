"""The stream panel, told what a server would tell it: it counts, selects, edits and stays small."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.editor import LOOK

pytestmark = pytest.mark.browser

ADD_NODE = """() => {
    app.graph.clear();
    const node = LiteGraph.createNode("AdaStateStream");
    node.pos = [100, 0];
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.centerOnNode(node);
    return [String(app.graph.id), String(node.id)];
}"""
SEND = "(event) => app.api.dispatchCustomEvent('adastate.panel', event)"
REWINDS = """() => app.graph.nodes
    .filter((node) => node.type === "AdaStateRewind")
    .map((node) => [node.widgets[0].value, app.graph.links.get(node.inputs[0].link).origin_id])"""
NODES = "app.graph.nodes.length"
SAVED = "app.graph.serialize().nodes[0].widgets_values"
MALFORMED = (None, 5, "x", {}, {"what": "chunk", "chunk": {"index": "a"}}, {"what": "begin"})


def chunk(index: int) -> dict[str, Any]:
    prompt = "a red ball" if index < 2 else "a blue ball"
    return {
        **{"index": index, "start": index * 0.5, "seconds": 0.5, "frames": 8, "prompt": prompt},
        **{"seed": 7, "transition": "swap", "motion": 0.03, "drift": 0.01 * index, "took": 1.0},
        **{"tile": None, "hidden": None, "picture": None},
    }


def begin(chunks: int) -> dict[str, Any]:
    panel = {
        **{"version": 1, "run": "r", "state": "running", "text": "chunk 0 of 12", "fps": 16.0},
        **{"width": 832, "height": 480, "first_chunk": 0, "chunks_wanted": 12},
        **{"seconds_wanted": 6.0, "seconds_left": None, "chunk": 0, "step": 0, "steps": 4},
        **{"folder": "adastate/panels/x", "chunks": [chunk(index) for index in range(chunks)]},
    }
    return {"what": "begin", "panel": panel}


def test_panel_follows_a_stream_and_rewinds_it(page: Any) -> None:
    workflow, node = page.evaluate(ADD_NODE)
    place = {"workflow": workflow, "node": node, "run": "r"}
    saved = page.evaluate(SAVED)
    for event in MALFORMED:
        page.evaluate(SEND, {**place, **event} if isinstance(event, dict) else event)
    page.get_by_text("The stream appears here").wait_for()

    page.evaluate(SEND, {**place, **begin(0)})
    for index in range(3):
        page.evaluate(SEND, {**place, "what": "chunk", "chunk": chunk(index)})
    status = {"text": "chunk 3 of 12", "chunk": 3, "step": 2, "steps": 4, "seconds_left": 9.0}
    page.evaluate(SEND, {**place, "what": "status", "status": status})
    tiles = page.get_by_test_id("adastate-tile")
    tiles.nth(2).wait_for()
    assert tiles.count() == 3
    shown = page.get_by_test_id("adastate-status").inner_text()
    assert "Chunk 3 of 12" in shown
    assert "1.5 s of 6.0 s" in shown
    assert page.locator(".adastate-prompt").all_inner_texts() == ["a red ball", "a blue ball"]

    page.locator(".adastate-scroller").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.locator(".adastate-selected[data-chunk='1']").wait_for()
    page.evaluate(LOOK, "AdaStateStream")
    nodes = page.evaluate(NODES)
    page.get_by_test_id("adastate-rewind").click()
    page.wait_for_function(f"{NODES} === {nodes + 1}")
    assert [[value, str(origin)] for value, origin in page.evaluate(REWINDS)] == [[1, node]]
    assert page.evaluate(SAVED) == saved
    assert not page.problems


def test_long_stream_keeps_only_what_is_in_view(page: Any) -> None:
    workflow, node = page.evaluate(ADD_NODE)
    page.evaluate(SEND, {"workflow": workflow, "node": node, "run": "r", **begin(500)})
    page.get_by_test_id("adastate-tile").first.wait_for()
    page.locator(".adastate-scroller").focus()
    for key, there in (("Home", 0), ("End", 499), ("ArrowLeft", 498)):
        page.keyboard.press(key)
        page.locator(f".adastate-selected[data-chunk='{there}']").wait_for()
        assert page.get_by_test_id("adastate-tile").count() < 30
    assert not page.problems
