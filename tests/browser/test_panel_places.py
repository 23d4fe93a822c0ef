"""Where else a panel may be: in a copy, in a subgraph, under the other renderer, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.kept_page import KeptPage, wait_until_ready
from tests.support.shipped import GENERATORS, open_short, with_node

pytestmark = pytest.mark.browser

KIND = "AdaStateStream"
CHUNKS = 2
SHOWN = """(kind) => app.canvas.graph.nodes.filter((node) => node.type === kind)
    .map((node) => node.adastatePanel.document?.chunks.length ?? 0)"""
DRAWN = """(count) => [...document.querySelectorAll("[data-testid=adastate-tile] img")]
    .filter((image) => image.complete && image.naturalWidth > 0).length >= count"""
COPY = """(kind) => {
    const node = app.graph.nodes.find((each) => each.type === kind);
    app.canvas.selectNode(node);
    app.canvas.copyToClipboard([node]);
    app.canvas.pasteFromClipboard({ position: [node.pos[0], node.pos[1] + node.size[1] + 100] });
}"""
INTO_SUBGRAPH = """(kind) => {
    const node = app.graph.nodes.find((each) => each.type === kind);
    app.graph.convertToSubgraph(new Set([node]));
    return node.id;
}"""
ENTER = """() => {
    const node = app.graph.nodes.find((each) => each.subgraph);
    app.canvas.openSubgraph(node.subgraph, node);
}"""
SWITCH = "(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"


def ready(editor: Editor) -> Any:
    open_short(editor, with_node(KIND), chunks=CHUNKS)
    return editor.page


def test_a_copy_has_an_empty_panel_of_its_own(editor: Editor) -> None:
    page = ready(editor)
    editor.run()
    page.evaluate(COPY, KIND)
    page.wait_for_function(f"() => ({SHOWN})('{KIND}').length === 2")
    assert sorted(page.evaluate(SHOWN, KIND)) == [0, CHUNKS]
    hints = page.get_by_text("The stream appears here while it is made.").filter(visible=True)
    hints.wait_for()
    editor.shoot("copied")


def test_a_panel_in_a_subgraph_shows_its_stream(editor: Editor) -> None:
    page = ready(editor)
    page.evaluate(INTO_SUBGRAPH, KIND)
    editor.run()
    page.evaluate(ENTER)
    page.wait_for_function(f"() => ({SHOWN})('{KIND}')[0] === {CHUNKS}")
    editor.look_at(KIND)
    page.wait_for_function(DRAWN, arg=CHUNKS)
    editor.shoot("in-subgraph", fit=False)
    # Also when the page is opened anew, where nothing was heard of the run.
    page.wait_for_timeout(1000)
    page.reload()
    wait_until_ready(page)
    page.evaluate(ENTER)
    page.wait_for_function(f"() => ({SHOWN})('{KIND}')[0] === {CHUNKS}")


def test_a_panel_survives_a_change_of_the_renderer(editor: Editor, renderer: str) -> None:
    page = ready(editor)
    editor.run()
    for vue in (renderer != "vue", renderer == "vue"):
        page.evaluate(SWITCH, vue)
        page.wait_for_timeout(1000)
        editor.look_at(KIND)
        page.wait_for_function(DRAWN, arg=CHUNKS)
        assert page.get_by_test_id("adastate-tile").filter(visible=True).count() == CHUNKS
        editor.shoot(f"switched-to-{'vue' if vue else 'canvas'}", fit=False)


@pytest.fixture
def without_scripts(editor: Editor, kept: KeptPage) -> Iterator[Editor]:
    """Yield the page as it is where this pack's scripts cannot be loaded."""
    page = editor.page
    ours = "**/adastate.js*"
    page.route(ours, lambda route: route.abort())
    page.reload()
    wait_until_ready(page)
    editor.expect(r"adastate\.js", "Unhandled message|Unknown message type")
    yield editor
    page.unroute(ours)
    kept.drop()


def test_everything_runs_without_the_scripts(without_scripts: Editor, subtests: Any) -> None:
    editor = without_scripts
    for kind in GENERATORS:
        with subtests.test(kind):
            open_short(editor, with_node(kind), chunks=CHUNKS)
            editor.run()
            assert editor.failed_nodes() == []
            assert editor.page.get_by_test_id("adastate-panel").count() == 0
            editor.shoot(f"no-scripts-{kind}")
