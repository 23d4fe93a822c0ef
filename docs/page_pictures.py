"""Pictures of ComfyUI's page with real runs in it: the first workflow, and every node of its own.

Needs Playwright and a Chromium (`CHROMIUM_PATH` may name one).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

GRAPH_WIDTH, NODE_WIDTH = 1600, 560
SHORT = 3
"""Chunks that a workflow makes for the pictures of its nodes."""

_NOTICES_LAST = 8000
_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
_SETTLE = """async (settings) => {
    for (const [id, value] of Object.entries(settings))
        await app.extensionManager.setting.set(id, value);
}"""
_OPEN = """async ([name, chunks]) => {
    const url = `/api/workflow_templates/adastate/${encodeURIComponent(name)}.json`;
    await app.loadGraphData(await (await fetch(url)).json(), true, true, name);
    for (const node of app.graph.nodes) {
        const widget = node.widgets?.find((one) => one.name === "chunks" && one.value > chunks);
        if (widget && node.type !== "AdaStateDecode") widget.value = chunks;
    }
}"""
_RUN = """() => new Promise((done) => {
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
        app.api.addEventListener(end, () => done(end), { once: true });
    app.queuePrompt(0, 1);
})"""
_FIT = """() => {
    const { ds, canvas } = app.canvas;
    app.canvas.deselectAll();
    const boxes = app.graph.nodes.map(({ pos, size, flags }) =>
        [pos[0], pos[1], ...(flags.collapsed ? [120, 0] : size)]);
    const left = Math.min(...boxes.map(([x]) => x)) - 30;
    const top = Math.min(...boxes.map(([, y]) => y)) - 100;
    const width = Math.max(...boxes.map(([x, , w]) => x + w)) + 30 - left;
    const height = Math.max(...boxes.map(([, y, , h]) => y + h)) + 30 - top;
    ds.scale = Math.min((canvas.clientWidth - 70) / width, (canvas.clientHeight - 110) / height);
    ds.offset[0] = -left + 65 / ds.scale;
    ds.offset[1] = -top + 95 / ds.scale;
    app.canvas.setDirty(true, true);
    return {
        x: 65, y: 95 + canvas.getBoundingClientRect().top,
        width: width * ds.scale, height: height * ds.scale,
    };
}"""
_ALONE = """(kind) => {
    app.graph.clear();
    app.graph.add(LiteGraph.createNode(kind));
}"""
_SHOW = """(kind) => {
    const node = app.graph.nodes.find((one) => one.type === kind && !one.flags.collapsed);
    if (!node) return null;
    app.canvas.deselectAll();
    const { ds, canvas } = app.canvas;
    ds.scale = 1;
    ds.offset[0] = 420 - node.pos[0];
    ds.offset[1] = 130 - node.pos[1];
    app.canvas.setDirty(true, true);
    const { left, top } = canvas.getBoundingClientRect();
    return { x: left + 412, y: top + 92, width: node.size[0] + 16, height: node.size[1] + 46 };
}"""


@contextmanager
def open_page(url: str) -> Iterator[Any]:
    """Open ComfyUI's page in a browser, under the classic renderer and without its greetings."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as library:
        chromium = library.chromium.launch(
            executable_path=os.environ.get("CHROMIUM_PATH"), args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport={"width": 2300, "height": 1330})
        page.goto(url)
        page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=120_000)
        page.wait_for_timeout(3000)
        page.evaluate(_SETTLE, _SETTINGS)
        page.keyboard.press("Escape")  # the choice of templates that greets a new user
        yield page
        chromium.close()


def take_graph(page: Any, workflow: str, path: Path) -> None:
    """Take the picture of a workflow in the editor, after it ran there."""
    page.evaluate(_OPEN, [workflow, 1 << 30])
    _run(page, workflow)
    page.evaluate(_FIT)
    page.wait_for_timeout(_NOTICES_LAST)
    _taken(page, page.evaluate(_FIT), GRAPH_WIDTH).save(path, quality=80, optimize=True)


def take_nodes(page: Any, workflows: Sequence[str], kinds: Sequence[str], folder: Path) -> None:
    """Take a picture of each node, from the first of some workflows that has it, after it ran.

    A node that is in none of them stands alone.
    """
    missing = list(kinds)
    for workflow in workflows:
        page.evaluate(_OPEN, [workflow, SHORT])
        _run(page, workflow)
        page.wait_for_timeout(2000)
        missing = [kind for kind in missing if not _take(page, kind, folder)]
    for kind in missing:
        page.evaluate(_ALONE, kind)
        _take(page, kind, folder)


def _run(page: Any, workflow: str) -> None:
    """Run what is open; a picture of a failure is none."""
    ended = page.evaluate(_RUN)
    if ended != "execution_success":
        raise RuntimeError(f"{workflow} ended with {ended}")


def _take(page: Any, kind: str, folder: Path) -> bool:
    if page.evaluate(_SHOW, kind) is None:
        return False
    page.wait_for_timeout(1000)  # until it is drawn, and as large as it wants to be
    picture = _taken(page, page.evaluate(_SHOW, kind), NODE_WIDTH)
    picture.save(folder / f"{kind}.jpg", quality=82, optimize=True)
    return True


def _taken(page: Any, clip: dict[str, float], width: int) -> Image.Image:
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    picture.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
    return picture
