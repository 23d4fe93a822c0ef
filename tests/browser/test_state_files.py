"""State files in the page: one opens its workflow, or is brought to Load State from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from adastate_core.files.state_file import load_state, save_state
from adastate_core.stream.state import StreamState
from tests.support.editor import Editor
from tools.server import ComfyServer

pytestmark = pytest.mark.browser

SHAPE = (1, 16, 4, 4)
_ADD = """() => {
    app.graph.clear();
    const node = LiteGraph.createNode("AdaStateLoad");
    app.graph.add(node);
    node.pos = [300, 300];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [0, 0];
    app.graph.setDirtyCanvas(true, true);
}"""
_SAVED = """() => {
    const node = LiteGraph.createNode("AdaStateNewStream");
    const latent = LiteGraph.createNode("EmptyHunyuanLatentVideo");
    const save = LiteGraph.createNode("AdaStateSave");
    for (const each of [latent, node, save]) app.graph.add(each);
    latent.connect(0, node, 0);
    node.connect(0, save, 0);
    save.title = "Keep this";
    save.widgets[0].value = "pages/dropped";
}"""
_FILE = """([name, bytes]) => {
    window.adastateFile = new File([new Uint8Array(bytes)], name);
}"""
_DROP = """([x, y]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(window.adastateFile);
    const at = document.elementFromPoint(x, y);
    for (const type of ["dragover", "drop"]) {
        const options = { bubbles: true, cancelable: true, dataTransfer, clientX: x, clientY: y };
        at.dispatchEvent(new DragEvent(type, options));
    }
}"""
_CHOSEN = """(wanted) => {
    const widgets = app.graph.nodes.find((node) => node.type === "AdaStateLoad")?.widgets ?? [];
    return widgets.find((widget) => widget.name === "file")?.value === wanted;
}"""
_PLACE = """() => {
    const node = app.graph.nodes.find((each) => each.type === "AdaStateLoad");
    const button = node.widgets.find((widget) => widget.type === "button");
    const { left, top } = app.canvas.canvas.getBoundingClientRect();
    return [left + node.pos[0] + node.size[0] / 2, top + node.pos[1] + (button.last_y ?? 40) + 8];
}"""


@pytest.fixture
def saved(tmp_path: Path, editor: Editor) -> Path:
    """Return a state file that no workflow is in."""
    path = tmp_path / f"brought-{editor.place}.adastate.safetensors"
    save_state(StreamState(SHAPE), path)
    return path


def add_load_state(editor: Editor) -> None:
    editor.page.evaluate(_ADD)
    editor.page.wait_for_timeout(500)


def give(editor: Editor, path: Path, name: str | None = None) -> None:
    """Let the page have a file, as from the artist's disk."""
    editor.page.evaluate(_FILE, [name or path.name, list(path.read_bytes())])


def choose(editor: Editor, path: Path) -> None:
    """Press the button, and choose a file."""
    with editor.page.expect_file_chooser() as chooser:
        if editor.renderer == "vue":
            editor.page.get_by_role("button", name="upload a state file").click()
        else:
            editor.page.mouse.click(*editor.page.evaluate(_PLACE))
    chooser.value.set_files(path)


def titles(editor: Editor) -> list[str]:
    return list(editor.page.evaluate("() => app.graph.nodes.map((node) => node.title)"))


def test_a_state_file_opens_its_workflow(editor: Editor, server: ComfyServer) -> None:
    editor.page.evaluate("() => app.graph.clear()")
    editor.page.evaluate(_SAVED)
    editor.run()
    (path,) = sorted((server.output_dir / "pages").glob("dropped_*.safetensors"))[-1:]
    with safe_open(path, framework="pt") as file:
        nodes = json.loads(file.metadata()["workflow"])["nodes"]
    assert len(nodes) == 3
    add_load_state(editor)
    give(editor, path)
    editor.page.evaluate("() => app.handleFile(window.adastateFile)")
    editor.page.wait_for_function(
        "() => app.graph.nodes.some((node) => node.title === 'Keep this')"
    )
    assert len(titles(editor)) == 3


def test_a_file_is_chosen_and_uploaded(editor: Editor, server: ComfyServer, saved: Path) -> None:
    add_load_state(editor)
    choose(editor, saved)
    editor.page.wait_for_function(_CHOSEN, arg=f"{saved.name} [input]")
    state = load_state(server.base_dir / "input" / saved.name)
    assert state.latent_shape == SHAPE
    editor.shoot(fit=False)
    values = editor.page.evaluate("() => app.graph.serialize().nodes[0].widgets_values")
    assert values == [f"{saved.name} [input]"]


def test_a_file_is_dropped_on_the_node(editor: Editor, server: ComfyServer, saved: Path) -> None:
    add_load_state(editor)
    name = f"dropped-{editor.place}.adastate (1).safetensors"
    give(editor, saved, name)
    editor.page.evaluate(_DROP, editor.page.evaluate(_PLACE))
    editor.page.wait_for_function(_CHOSEN, arg=f"{name} [input]")
    assert (server.base_dir / "input" / name).read_bytes() == saved.read_bytes()
    assert titles(editor) == ["Load State"]


def test_what_is_no_state_file_is_told(editor: Editor, tmp_path: Path) -> None:
    add_load_state(editor)
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"x")
    choose(editor, other)
    editor.page.get_by_text("model.safetensors was not written by Save State").first.wait_for()
