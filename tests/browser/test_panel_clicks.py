"""The panel of a node that ran, clicked: what it adds to the workflow runs, and can be undone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.shipped import open_short, with_node

pytestmark = pytest.mark.browser

KIND = "AdaStateStream"
CHUNKS = 3
KINDS = "() => app.graph.nodes.map((node) => node.type).sort()"
COUNT = "(count) => app.graph.nodes.length === count"
BEHIND = """(kind) => {
    const { nodes } = app.graph;
    const rewind = nodes.find((node) => node.type === "AdaStateRewind");
    const link = (node, name) => {
        const input = node.inputs.find((each) => each.name === name);
        return app.graph.links.get(input.link)?.origin_id;
    };
    const [first, branch] = nodes.filter((node) => node.type === kind);
    const value = (node, name) => node.widgets.find((each) => each.name === name).value;
    return {
        chunk: rewind.widgets[0].value,
        from_first: link(rewind, "state") === first.id,
        from_rewind: branch ? link(branch, "state") === rewind.id : null,
        same: branch && ["model", "positive", "negative", "sampler", "sigmas"]
            .every((name) => link(branch, name) === link(first, name)),
        chunks: branch && value(branch, "chunks") === value(first, "chunks"),
        seeds: branch && value(branch, "seed") !== value(first, "seed"),
        apart: [rewind, branch].filter(Boolean).every((a) => nodes.every((b) => a === b
            || a.pos[0] + a.size[0] <= b.pos[0] || b.pos[0] + b.size[0] <= a.pos[0]
            || a.pos[1] + a.size[1] <= b.pos[1] || b.pos[1] + b.size[1] <= a.pos[1])),
    };
}"""
SHOWN = """(kind) => app.graph.nodes.filter((node) => node.type === kind)
    .map((node) => node.adastatePanel.document?.chunks.map((chunk) => chunk.index) ?? [])"""


@pytest.fixture
def ran(editor: Editor) -> Editor:
    """Return the page after a short run of Stream Chunks, with a chunk selected by a click."""
    open_short(editor, with_node(KIND), chunks=CHUNKS)
    editor.run()
    editor.look_at(KIND)
    editor.page.get_by_test_id("adastate-tile").nth(1).click()
    editor.page.locator(".adastate-selected[data-chunk='1']").wait_for()
    return editor


def kinds(editor: Editor) -> list[str]:
    return list(editor.page.evaluate(KINDS))


def undo(editor: Editor, before: list[str]) -> None:
    """Undo once, and be where one was."""
    page = editor.page
    page.wait_for_timeout(800)
    page.mouse.move(20, 500)
    page.keyboard.press("Control+z")
    page.wait_for_function(COUNT, arg=len(before), timeout=10_000)
    assert kinds(editor) == before


def test_a_rewind_is_one_step_of_undo(ran: Editor) -> None:
    before = kinds(ran)
    ran.page.get_by_test_id("adastate-rewind").click()
    ran.page.wait_for_function(COUNT, arg=len(before) + 1)
    behind: dict[str, Any] = ran.page.evaluate(BEHIND, KIND)
    assert (behind["chunk"], behind["from_first"], behind["apart"]) == (1, True, True)
    undo(ran, before)


def test_a_branch_runs_and_is_one_step_of_undo(ran: Editor) -> None:
    page, before = ran.page, kinds(ran)
    page.get_by_test_id("adastate-branch").click()
    page.wait_for_function(COUNT, arg=len(before) + 2)
    assert page.evaluate(BEHIND, KIND) == {
        **{"chunk": 1, "from_first": True, "from_rewind": True},
        **{"same": True, "chunks": True, "seeds": True, "apart": True},
    }
    undo(ran, before)
    ran.look_at(KIND)
    page.get_by_test_id("adastate-tile").nth(1).click()
    page.get_by_test_id("adastate-branch").click()
    page.wait_for_function(COUNT, arg=len(before) + 2)
    page.evaluate(
        """() => {
            const branch = app.graph.nodes.filter((node) => node.type === "AdaStateStream")[1];
            const preview = LiteGraph.createNode("AdaStateSave");
            preview.pos = [branch.pos[0] + branch.size[0] + 60, branch.pos[1]];
            app.graph.add(preview);
            branch.connect(branch.outputs.findIndex((one) => one.name === "state"), preview, 0);
        }"""
    )
    ran.run()
    assert ran.failed_nodes() == []
    first, branch = page.evaluate(SHOWN, KIND)
    assert first == [0, 1, 2]
    assert branch[-CHUNKS:] == [2, 3, 4]
    ran.shoot("branch")


def test_a_seed_is_copied_and_a_prompt_is_found(ran: Editor) -> None:
    page = ran.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_test_id("adastate-copy-seed").click()
    seed = page.evaluate(
        """() => app.graph.nodes.find((node) => node.type === "AdaStateStream")
            .widgets.find((widget) => widget.name === "seed").value"""
    )
    page.wait_for_function(
        "async (seed) => (await navigator.clipboard.readText()) === seed", arg=str(seed)
    )
    page.get_by_test_id("adastate-edit-prompt").click()
    selected = "() => Object.values(app.canvas.selected_nodes).map((node) => node.type)"
    assert page.evaluate(selected) == ["CLIPTextEncode"]
