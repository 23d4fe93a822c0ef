"""The streams sidebar: continue, fork, rename and delete a stream, and bring it back."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.editor import Editor
from tools.client import ComfyClient
from tools.graph import load_prompt
from tools.server import ComfyServer

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
WORKFLOW = next((ROOT / "workflows").glob("*Continue a named stream*.json"))


ON_CANVAS = pytest.mark.parametrize("renderer", ["canvas"], indirect=True, scope="session")
"""For what the sidebar does by itself, whatever draws the nodes."""


@pytest.fixture(scope="session")
def made(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one stream in it, made by a real run."""

    def make() -> None:
        with ComfyClient(server.url) as client:
            prompt = load_prompt(WORKFLOW, client)
            (steps,) = [n for n in prompt.values() if n["class_type"] == "BasicScheduler"]
            steps["inputs"]["steps"] = 2
            client.run(prompt)

    with ThreadPoolExecutor(1) as thread:  # the browser's event loop runs in this one
        thread.submit(make).result()
    streams = server.output_dir / "adastate" / "streams"
    return Path(shutil.copytree(streams, tmp_path_factory.mktemp("made") / "streams"))


@pytest.fixture
def streams(server: ComfyServer, made: Path) -> Path:
    """Return the streams folder with two streams in it, and nothing in the bin."""
    folder = server.output_dir / "adastate" / "streams"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)
    shutil.copytree(folder / "my stream", folder / "other")
    return folder


@pytest.fixture
def sidebar(editor: Editor, streams: Path) -> Any:
    """Return the sidebar, opened by its command."""
    editor.open(WORKFLOW.stem)
    editor.page.evaluate("() => app.extensionManager.command.execute('AdaState.OpenStreams')")
    shown = editor.page.get_by_test_id("adastate-streams")
    shown.get_by_test_id("adastate-streams-all").click()
    shown.get_by_test_id("adastate-stream").nth(1).wait_for()
    return shown


def row(sidebar: Any, name: str) -> Any:
    return sidebar.locator(f"[data-testid=adastate-stream][data-name='{name}']")


def press(sidebar: Any, name: str, what: str) -> None:
    row(sidebar, name).get_by_test_id(f"adastate-stream-{what}").click()


def answer(page: Any, text: str) -> None:
    """Type into the page's dialog, and confirm it."""
    field = page.get_by_role("dialog").get_by_role("textbox")
    field.fill(text)
    field.press("Enter")


def revision(folder: Path) -> int:
    return int(json.loads((folder / "manifest.json").read_text())["revision"])


def test_streams_show_what_they_are(editor: Editor, sidebar: Any) -> None:
    shown = row(sidebar, "my stream")
    text = shown.inner_text()
    assert "2 chunks" in text
    assert " s, " in text  # seconds first
    assert "ago" in text or "just now" in text
    picture = shown.locator("img")
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    editor.shoot("streams-sidebar")


@ON_CANVAS
def test_a_stream_is_forked_and_renamed(editor: Editor, sidebar: Any, streams: Path) -> None:
    press(sidebar, "my stream", "fork")
    answer(editor.page, "my fork")
    row(sidebar, "my fork").wait_for()
    assert revision(streams / "my fork") == revision(streams / "my stream")
    press(sidebar, "my fork", "rename")
    answer(editor.page, "renamed")
    row(sidebar, "renamed").wait_for()
    assert not (streams / "my fork").exists()
    assert (streams / "renamed").is_dir()


@ON_CANVAS
def test_a_name_that_is_taken_is_told_in_words(editor: Editor, sidebar: Any, streams: Path) -> None:
    press(sidebar, "my stream", "rename")
    answer(editor.page, "other")
    # Twice on the newest page, which reads it aloud as well.
    editor.page.get_by_text('There is a stream "other" already').first.wait_for()
    editor.page.get_by_text("Choose another name.").first.wait_for()
    assert (streams / "my stream").is_dir()


@ON_CANVAS
def test_a_deleted_stream_comes_back(editor: Editor, sidebar: Any, streams: Path) -> None:
    press(sidebar, "other", "delete")
    undo = sidebar.get_by_test_id("adastate-stream-undo")
    undo.wait_for()
    row(sidebar, "other").wait_for(state="detached")
    assert not (streams / "other").exists()
    undo.click()
    row(sidebar, "other").wait_for()
    assert revision(streams / "other") == 1

    press(sidebar, "other", "delete")
    row(sidebar, "other").wait_for(state="detached")
    sidebar.get_by_test_id("adastate-bin").click()
    binned = sidebar.locator("[data-testid=adastate-binned][data-name=other]")
    binned.get_by_test_id("adastate-bin-purge").click()
    editor.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    binned.wait_for(state="detached")
    assert not list((streams / ".bin").iterdir())


@ON_CANVAS
def test_a_stream_is_continued(editor: Editor, sidebar: Any, streams: Path) -> None:
    press(sidebar, "other", "continue")
    opened = "app.graph.nodes.filter((n) => n.comfyClass === 'AdaStateOpenStream')"
    assert editor.page.evaluate(f"() => {opened}.map((n) => n.widgets[0].value)") == ["other"]
    editor.set("BasicScheduler", steps=2)
    editor.run(240)
    assert revision(streams / "other") == 2
    assert revision(streams / "my stream") == 1
    row(sidebar, "other").get_by_text("4 chunks").wait_for()  # it looks again by itself


def test_an_open_stream_is_wired_before_what_is_selected(editor: Editor, sidebar: Any) -> None:
    editor.page.evaluate(
        """() => {
            const open = app.graph.nodes.find((n) => n.comfyClass === "AdaStateOpenStream");
            const start = app.graph.getNodeById(app.graph.getLink(open.inputs[0].link).origin_id);
            const stream = app.graph.nodes.find((n) => n.comfyClass === "AdaStateStream");
            app.graph.remove(open);
            start.connect(0, stream, stream.inputs.findIndex((i) => i.type === "ADASTATE"));
            app.canvas.deselectAll();
            app.canvas.selectNode(stream);
        }"""
    )
    press(sidebar, "my stream", "continue")
    wired = editor.page.evaluate(
        """() => {
            const [open] = app.graph.nodes.filter((n) => n.comfyClass === "AdaStateOpenStream");
            const from = (node) => {
                const slot = node.inputs.find((i) => i.type === "ADASTATE");
                const link = app.graph.getLink(slot.link);
                return link && app.graph.getNodeById(link.origin_id).comfyClass;
            };
            const stream = app.graph.nodes.find((n) => n.comfyClass === "AdaStateStream");
            return [open.widgets[0].value, from(open), from(stream)];
        }"""
    )
    assert wired == ["my stream", "AdaStateNewStream", "AdaStateOpenStream"]


def test_open_stream_offers_the_names(editor: Editor, sidebar: Any) -> None:
    editor.page.evaluate(
        """() => app.graph.nodes.find((n) => n.comfyClass === "AdaStateOpenStream")
            .widgets.find((w) => w.type === "button").callback()"""
    )
    menu = editor.page.get_by_test_id("adastate-names")
    menu.locator("[data-name=other]").click()
    menu.wait_for(state="detached")
    saved = editor.page.evaluate(
        "() => app.graph.serialize().nodes.find((n) => n.type === 'AdaStateOpenStream')"
    )
    assert saved["widgets_values"] == ["other"]


WORDS = {
    "sizeText(0)": "0 bytes",
    "sizeText(999)": "999 bytes",
    "sizeText(1310720)": "1.3 MB",
    "sizeText(250e9)": "250 GB",
    "lengthOf(8.83)": "8.8 s",
    "lengthOf(61)": "1 min 01 s",
    "lengthOf(7265)": "2 h 1 min",
    "ageText(100, 103)": "just now",
    "ageText(100, 161)": "1 minute ago",
    "ageText(100, 100 + 86400 * 3)": "3 days ago",
    "ageText(200, 100)": "just now",
    "lengthText({frames: 141, chunks: 12}, 16)": "8.8 s, 12 chunks",
    "lengthText({frames: null, chunks: 1}, 16)": "1 chunk",
    "lengthText({frames: null, chunks: null}, 16)": "continue it once to see its length",
    "freeName('walk', ['walk'])": "walk 2",
    "freeName('walk 2', ['walk', 'walk 2', 'walk 3'])": "walk 4",
    "freeName('2001', [])": "2001 2",
    "matches({name: 'Walk', prompt: 'a red circle'}, 'red walk')": True,
    "matches({name: 'Walk', prompt: 'a red circle'}, 'blue walk')": False,
    "matches({name: 'Walk', prompt: ''}, '')": True,
}


@ON_CANVAS
def test_lengths_sizes_and_ages_in_words(page: Any) -> None:
    words = "['streams/words.js', 'lengths.js'].map((f) => import(`/extensions/adastate/js/${f}`))"
    for call, said in WORDS.items():
        asked = f"() => Promise.all({words}).then(([a, b]) => ({{ ...a, ...b }}).{call})"
        assert page.evaluate(asked) == said, call
