"""Take the pictures of the nodes that their help pages show, out of ComfyUI's page.

    python -m docs.node_pictures

A node is taken from a workflow that has just run; one that is in none of them stands alone. Needs
Playwright and a Chromium (`CHROMIUM_PATH` may name one).
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from docs.make_pictures import new_server
from tools import environment

HELP = environment.ROOT / "web" / "docs"
PICTURES = HELP / "nodes"
WORKFLOWS = (
    *("01 Stream the demo world", "02 Render a long video", "03 Stream a timeline"),
    *("05 Compare anchors", "07 Step by step", "08 Branch a scene", "09 Continue a named stream"),
    "10 Stream a causal Wan 2.1 model",
)
NOT_RUN = {"05 Compare anchors", "10 Stream a causal Wan 2.1 model"}
"""One needs weights; the other is inside a subgraph, and its nodes are in the others too."""
WIDTH = 640

_OPEN = """async (name) => {
    const url = `/api/workflow_templates/adastate/${encodeURIComponent(name)}.json`;
    await app.loadGraphData(await (await fetch(url)).json(), true, true, name);
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name === "chunks" && widget.value > 4) widget.value = 4;
}"""
_RUN = """() => new Promise((done) => {
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
        app.api.addEventListener(end, () => done(end), { once: true });
    app.queuePrompt(0, 1);
})"""
_ALONE = """(type) => {
    app.graph.clear();
    app.graph.add(LiteGraph.createNode(type));
}"""
_SHOW = """(type) => {
    const node = app.graph.nodes.find((each) => each.type === type);
    if (!node) return null;
    app.canvas.deselectAll();
    const { ds, canvas } = app.canvas;
    ds.scale = 1;
    ds.offset[0] = 420 - node.pos[0];
    ds.offset[1] = 130 - node.pos[1];
    app.canvas.setDirty(true, true);
    const { left, top } = canvas.getBoundingClientRect();
    return { x: left + 408, y: top + 88, width: node.size[0] + 24, height: node.size[1] + 54 };
}"""


def open_page(library: Any, url: str) -> Any:
    """Open ComfyUI's page in a browser, under the classic renderer and without its greetings."""
    browser = library.chromium.launch(
        executable_path=os.environ.get("CHROMIUM_PATH"), args=["--no-sandbox"]
    )
    page = browser.new_page(viewport={"width": 1500, "height": 1500})
    page.goto(url)
    page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=120_000)
    settings = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": False}
    settings |= {"Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
    for name, value in settings.items():
        page.evaluate("([n, v]) => app.extensionManager.setting.set(n, v)", [name, value])
    page.keyboard.press("Escape")
    page.wait_for_timeout(3000)
    return page


def take(page: Any, kind: str) -> bool:
    """Take the picture of a node, if the workflow has one."""
    clip = page.evaluate(_SHOW, kind)
    if clip is None:
        return False
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    picture.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
    PICTURES.mkdir(exist_ok=True)
    picture.save(PICTURES / f"{kind}.jpg", quality=82, optimize=True)
    return True


def main() -> int:
    """Open the workflows one after the other and take every node once."""
    from playwright.sync_api import sync_playwright

    missing = sorted(Path(path).stem for path in HELP.glob("*.md"))
    with new_server() as server, sync_playwright() as library:
        page = open_page(library, server.url)
        for workflow in WORKFLOWS:
            page.evaluate(_OPEN, workflow)
            if workflow not in NOT_RUN:
                page.evaluate(_RUN)
            page.wait_for_timeout(2500)
            missing = [kind for kind in missing if not take(page, kind)]
        for kind in missing:
            page.evaluate(_ALONE, kind)
            take(page, kind)
        page.context.browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
