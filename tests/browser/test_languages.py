"""The page in another language: panels, the timeline editor and the sidebar speak it as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.shipped import open_short, with_node

pytestmark = pytest.mark.browser

LOCALES = Path(__file__).parents[2] / "locales"
LANGUAGE = "ja"
SHOWN = """() => [...document.querySelectorAll('[class*="adastate-"], [class*="adastate-"] *')]
    .flatMap((element) => [
        ...[...element.childNodes].filter((one) => one.nodeType === 3).map((one) => one.data),
        element.title, element.placeholder, element.getAttribute("aria-label"),
    ])
    .filter(Boolean)"""


@pytest.fixture
def translated(editor: Editor, speak: Callable[[str], None]) -> Editor:
    """Return the page in another language."""
    speak(LANGUAGE)
    return editor


def texts(language: str, name: str) -> dict[str, Any]:
    """Return the texts of a file of a language."""
    read: dict[str, Any] = json.loads((LOCALES / language / f"{name}.json").read_text("utf-8"))
    return read


def check_words(editor: Editor) -> None:
    """Find our words in the page in its language, and none in English."""
    seen = set(editor.page.evaluate(SHOWN))
    ours = texts(LANGUAGE, "main")["adastate"]
    assert not seen & {text for text, said in ours.items() if said != text}
    assert len(seen & set(ours.values())) > 5, seen


def test_everything_of_ours_is_translated(translated: Editor) -> None:
    check_panel_and_timeline(translated)
    check_sidebar(translated)


def check_panel_and_timeline(translated: Editor) -> None:
    kind = "AdaStateStreamTimeline"
    open_short(translated, with_node(kind))
    translated.run()
    translated.page.locator(".adastate-tl-made").first.wait_for(state="attached")
    check_words(translated)
    translated.look_at(kind)
    translated.shoot("translated-panel", fit=False)


def check_sidebar(translated: Editor) -> None:
    open_short(translated, with_node("AdaStateCommitStream"))
    translated.set("AdaStateOpenStream", name=f"language {translated.place}")
    translated.run()
    translated.command("AdaState.OpenStreams")
    translated.page.get_by_test_id("adastate-stream").first.wait_for()
    check_words(translated)
    label = texts(LANGUAGE, "nodeDefs")["AdaStateCommitStream"]["display_name"]
    titles = "() => app.graph.nodes.map((node) => node.title)"
    assert label in translated.page.evaluate(titles)
    translated.shoot("translated-sidebar")
