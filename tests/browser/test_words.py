"""What the page says in words: errors as an artist reads them."""

from __future__ import annotations

import re

import pytest

from tests.support.console import REFUSED
from tests.support.editor import Editor
from tests.support.shipped import open_short, with_node

pytestmark = pytest.mark.browser

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


UNWIRE = """([kind, name]) => {
    const node = app.graph.nodes.find((each) => each.type === kind);
    node.disconnectInput(node.inputs.findIndex((input) => input.name === name));
}"""


def test_guidance_without_a_negative_prompt(editor: Editor) -> None:
    """It shows while it runs: the sentence pops up, as the page's own words name only the node."""
    kind = "AdaStateStream"
    editor.expect("PromptExecutionError", "cfg above 1")
    open_short(editor, with_node(kind))
    editor.set(kind, cfg=3.0)
    editor.page.evaluate(UNWIRE, [kind, "negative"])
    editor.start()
    told = editor.wait()
    assert told["end"] == "execution_error"
    assert told["exception_type"] == "AdaState.ConfigError"
    sentence = "cfg above 1 needs a negative prompt. Connect one to negative, or set cfg to 1."
    editor.page.get_by_text(sentence, exact=True).filter(visible=True).first.wait_for()
    check_error(editor, sentence, "error-negative")
    status = editor.page.get_by_test_id("adastate-panel").inner_text()
    assert not TECHNICAL.search(status)
    assert "cfg above 1 needs a negative prompt" in status.lower()


def test_words_that_the_demo_does_not_know(editor: Editor) -> None:
    kind = "AdaStateStream"
    open_short(editor, with_node(kind))
    text = """(text) => {
        const node = app.graph.nodes.find((each) => each.type === "CLIPTextEncode"
            && each.outputs[0].links?.some((id) => {
                const link = app.graph.links.get(id);
                const { type, inputs } = app.graph.getNodeById(link.target_id);
                return type === "AdaStateStream" && inputs[link.target_slot].name === "positive";
            }));
        node.widgets[0].value = text;
    }"""
    editor.page.evaluate(text, "a cat in the rain")
    editor.run()
    editor.page.get_by_text("does not know").first.wait_for()
    editor.shoot("unknown-words")
