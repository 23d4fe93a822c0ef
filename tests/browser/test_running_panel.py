"""The panel of a node that really runs: what it shows meanwhile, afterwards and after a reload."""

from __future__ import annotations

import pytest

from tests.support.editor import Editor
from tests.support.kept_page import wait_until_ready
from tests.support.shipped import open_short, with_node

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
STILL_SAYS = """(text) => window.adastateEnded === undefined
    && [...document.querySelectorAll(".adastate-prompt")]
        .some((prompt) => prompt.innerText.includes(text))"""


@pytest.mark.parametrize("kind", ["AdaStateStream", "AdaStateRender"])
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


def test_a_timeline_shows_where_it_is(editor: Editor) -> None:
    """Its nodes run hidden; all that they say is on the one that the artist sees."""
    kind, page = "AdaStateStreamTimeline", editor.page
    open_short(editor, with_node(kind), chunks=4, steps=4)
    editor.set(kind, timeline="0: red circle, sand\n2 blend 1: blue square, sand")
    editor.look_at(kind)
    editor.start()
    for text in ("red circle", "blue square"):
        page.wait_for_function(STILL_SAYS, arg=text, timeout=120_000)
    assert editor.wait()["end"] == "execution_success"
    assert page.get_by_test_id("adastate-tile").count() == 4
    assert page.locator(".adastate-prompt").count() == 2
    assert "4 chunks" in page.get_by_test_id("adastate-status").inner_text()
    editor.shoot(fit=False)
