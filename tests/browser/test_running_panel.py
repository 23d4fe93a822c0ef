"""The panel of a node that really runs: what it shows meanwhile, afterwards and after a reload."""

from __future__ import annotations

import pytest

from tests.browser.conftest import wait_until_ready
from tests.support.editor import Editor
from tests.support.shipped import GENERATORS, open_short, with_node

pytestmark = pytest.mark.browser

CHUNKS = 3
STILL_RUNNING = "() => window.adastateEnded === undefined"
PICTURE = "[data-testid=adastate-stage] :is(img, canvas)"
PLAYING = """() => [...document.querySelectorAll("[data-testid=adastate-stage] video")].some(
    (video) => video.readyState >= 2 && video.currentTime > 0
        && !video.paused && video.loop && video.muted)"""
DRAWN = """() => [...document.querySelectorAll("[data-testid=adastate-hidden] img")]
    .filter((image) => image.complete && image.naturalWidth > 0).length"""
ALL_DRAWN = f"(count) => ({DRAWN})() === count"


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_stream_is_seen_while_it_is_made_and_after(editor: Editor, kind: str) -> None:
    page = editor.page
    open_short(editor, with_node(kind), chunks=CHUNKS, steps=4)
    editor.look_at(kind)
    editor.start()
    page.wait_for_selector(PICTURE, timeout=120_000)
    assert page.evaluate(STILL_RUNNING)
    assert "hunk" in page.get_by_test_id("adastate-status").inner_text()
    assert editor.wait()["end"] == "execution_success"
    assert editor.failed_nodes() == []
    if kind == "AdaStateRender":
        page.wait_for_function(PLAYING)
        assert page.get_by_text("Video failed to load").count() == 0
    assert page.get_by_test_id("adastate-tile").count() == CHUNKS
    page.wait_for_function(ALL_DRAWN, arg=CHUNKS)
    editor.shoot(f"panel-{kind}", fit=False)

    page.wait_for_timeout(1000)  # the page keeps a workflow half a second after its last change
    page.reload()
    wait_until_ready(page)
    editor.look_at(kind)
    page.get_by_test_id("adastate-tile").nth(CHUNKS - 1).wait_for()
    page.wait_for_function(ALL_DRAWN, arg=CHUNKS)


COPY = """(kind) => {
    const node = app.graph.nodes.find((each) => each.type === kind);
    app.canvas.selectItems([node]);
    app.canvas.copyToClipboard();
    app.canvas.pasteFromClipboard();
}"""
SELECT = (
    """(kind) => app.canvas.selectItems(app.graph.nodes.filter((node) => node.type === kind))"""
)
ENTER = """() => {
    const node = app.graph.nodes.find((each) => each.subgraph);
    app.canvas.openSubgraph(node.subgraph, node);
}"""


def test_a_panel_is_clicked_copied_and_put_into_a_subgraph(editor: Editor) -> None:
    page, kind = editor.page, "AdaStateStream"
    open_short(editor, with_node(kind))
    editor.look_at(kind)
    editor.run()
    page.get_by_test_id("adastate-tile").first.click()
    page.get_by_test_id("adastate-rewind").click()
    page.wait_for_function("app.graph.nodes.some((node) => node.type === 'AdaStateRewind')")
    editor.look_at(kind)
    page.get_by_test_id("adastate-branch").click()
    page.wait_for_function(f"app.graph.nodes.filter((n) => n.type === '{kind}').length === 2")

    open_short(editor, with_node(kind))
    page.evaluate(COPY, kind)
    page.wait_for_function(f"app.graph.nodes.filter((n) => n.type === '{kind}').length === 2")
    editor.fit()
    page.wait_for_function("document.querySelectorAll('[data-testid=adastate-panel]').length === 2")

    open_short(editor, with_node(kind))
    page.evaluate(SELECT, kind)
    editor.command("Comfy.Graph.ConvertToSubgraph")
    editor.run()
    page.evaluate(ENTER)
    editor.fit()
    page.get_by_test_id("adastate-tile").nth(1).wait_for()


OWN_PLAYER = """() => [...document.querySelectorAll("video")].some(
    (video) => video.readyState >= 2 && video.src.includes(".mp4"))"""


def test_without_the_scripts_everything_runs(editor: Editor) -> None:
    page = editor.page
    for path in ("adastate.js", "js/**/*.js"):
        page.route(
            f"**/extensions/adastate/{path}",
            lambda route: route.fulfill(body="", content_type="text/javascript"),
        )
    page.reload()
    wait_until_ready(page)
    open_short(editor, with_node("AdaStateRender"))
    editor.run()
    assert page.get_by_test_id("adastate-panel").count() == 0
    assert editor.failed_nodes() == []
    page.wait_for_function(OWN_PLAYER)
