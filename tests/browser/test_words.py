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
