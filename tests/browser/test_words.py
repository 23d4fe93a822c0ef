"""What the page says in words: errors as an artist reads them, and lines under nodes."""

from __future__ import annotations

import re

import pytest

from tests.support.console import REFUSED
from tests.support.editor import Editor
from tests.support.shipped import open_short, with_node

pytestmark = pytest.mark.browser

UNCONNECT = """([kind, name]) => {
    const node = app.graph.nodes.find((each) => each.type === kind);
    node.disconnectInput(node.inputs.findIndex((input) => input.name === name));
}"""
TECHNICAL = re.compile(r"Traceback|\.py\b|/custom_nodes/|adastate_core|adastate_comfy|Error:")


def check_error(editor: Editor, sentence: str, name: str) -> None:
    """Read the message that pops up, and the panel behind it."""
    page = editor.page
    overlay = page.get_by_test_id("error-overlay")
    overlay.wait_for(timeout=60_000)
    editor.shoot(f"{name}-overlay", fit=False)
    told = page.get_by_test_id("error-overlay-messages").inner_text()
    assert not TECHNICAL.search(told), told
    page.get_by_test_id("error-overlay-see-errors").click()
    page.get_by_text(sentence).first.wait_for()
    editor.shoot(f"{name}-panel", fit=False)


def test_a_timeline_that_is_wrong(editor: Editor) -> None:
    kind = "AdaStateStreamTimeline"
    editor.expect(*REFUSED)
    open_short(editor, with_node(kind))
    editor.set(kind, timeline="0: red circle\n1 fade: blue square")
    editor.press_run()
    check_error(editor, 'Line 2: "fade" is not a transition.', "error-timeline")
    assert editor.failed_nodes() == [kind]


def test_guidance_without_a_negative_prompt(editor: Editor) -> None:
    kind = "AdaStateStream"
    open_short(editor, with_node(kind))
    editor.set(kind, cfg=2.0)
    editor.page.evaluate(UNCONNECT, [kind, "negative"])
    editor.press_run()
    check_error(editor, "negative", "error-negative")


def test_streams_say_what_they_are(editor: Editor) -> None:
    open_short(editor, with_node("AdaStateCommitStream"))
    editor.set("AdaStateOpenStream", name=f"words {editor.place}")
    editor.run()
    editor.fit()
    for text in ("new stream", "revision 1, 2 chunks"):
        editor.page.get_by_text(re.compile(text, re.IGNORECASE)).first.wait_for()
