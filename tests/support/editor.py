"""ComfyUI's page as somebody who works with it: open, change, run, look."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAPTOP, DESK = (1440, 820), (1800, 1200)
"""Sizes of the window. The tests are done on a laptop."""

_OPEN = """async (name) => {
    const url = `/api/workflow_templates/adastate/${encodeURIComponent(name)}.json`;
    await app.loadGraphData(await (await fetch(url)).json(), true, true, name);
}"""
_SET = """([type, name, value]) => {
    const nodes = app.graph.nodes.filter((node) => node.type === type);
    for (const node of nodes) {
        const widget = node.widgets.find((each) => each.name === name);
        widget.value = value;
        widget.callback?.(value);
    }
    app.graph.setDirtyCanvas(true, true);
    return nodes.length;
}"""
_LISTEN = """() => {
    window.adastateEnded = undefined;
    for (const end of ["execution_success", "execution_error", "execution_interrupted"])
        app.api.addEventListener(end, ({ detail }) => {
            window.adastateEnded = JSON.stringify({ end, ...detail });
        }, { once: true });
}"""
LOOK = """(kind) => {
    const node = app.canvas.graph.nodes.find((each) => each.type === kind);
    const { ds, canvas } = app.canvas;
    ds.scale = Math.min(1, (canvas.clientHeight - 160) / node.size[1]);
    ds.offset[0] = canvas.clientWidth / ds.scale / 2 - node.pos[0] - node.size[0] / 2;
    ds.offset[1] = 110 / ds.scale - node.pos[1];
    app.canvas.setDirty(true, true);
}"""
_FAILED = "() => app.graph.nodes.filter((node) => node.has_errors).map((node) => node.type)"


class Editor:
    """ComfyUI's page, and the person before it.

    Args:
        page: Playwright's page, with ComfyUI in it.
        renderer: How it draws nodes.
        shots: Where pictures of it are kept.
        test: Name of the test, which they are named after.
        sizes: Sizes of the window at which they are taken.
    """

    def __init__(
        self,
        page: Any,
        renderer: str,
        shots: Path,
        test: str,
        sizes: Sequence[tuple[int, int]] = (LAPTOP,),
    ) -> None:
        self.page, self.renderer = page, renderer
        self._shots, self._test, self._sizes = shots, test, sizes
        self._expected: list[str] = []

    def expect(self, *said: str) -> None:
        """Let the page's console say something, as patterns; a test may provoke it."""
        self._expected += said

    def expects(self, problem: str) -> bool:
        """Return whether this test provokes it."""
        return any(re.search(pattern, problem) for pattern in self._expected)

    def open(self, name: str) -> None:
        """Open a shipped workflow, as the list of templates does."""
        self.page.evaluate(_OPEN, name)

    def set(self, kind: str, **widgets: Any) -> None:
        """Give widgets of all nodes of a type new values."""
        for name, value in widgets.items():
            assert self.page.evaluate(_SET, [kind, name, value]), f"there is no {kind}"

    def nodes(self, kind: str) -> list[str]:
        """Return the ids of the nodes of a type."""
        found = "(kind) => app.graph.nodes.filter((n) => n.type === kind).map((n) => String(n.id))"
        return list(self.page.evaluate(found, kind))

    @property
    def place(self) -> str:
        """Name of the page and the renderer."""
        return self._shots.name

    def command(self, name: str) -> None:
        """Run one of the page's commands."""
        run = "(name) => app.extensionManager.command.execute(name)"
        self.page.evaluate(run, name)

    def press_run(self) -> None:
        """Press Run, whatever comes of it."""
        self.command("Comfy.QueuePrompt")

    def start(self) -> None:
        """Press Run, and do not wait."""
        self.page.evaluate(_LISTEN)
        self.press_run()

    def wait(self, seconds: float = 120.0) -> dict[str, Any]:
        """Wait until what was started has ended; return how."""
        ended = self.page.wait_for_function(
            "window.adastateEnded", timeout=seconds * 1000, polling=200
        )
        return dict(json.loads(ended.json_value()))

    def run(self, seconds: float = 120.0) -> None:
        """Press Run and wait; nothing may fail."""
        self.start()
        told = self.wait(seconds)
        assert told["end"] == "execution_success", told

    def failed_nodes(self) -> list[str]:
        """Return the types of the nodes with a red frame."""
        return list(self.page.evaluate(_FAILED))

    def look_at(self, kind: str) -> None:
        """Bring the first node of a type into view, as large as the window allows."""
        self.page.evaluate(LOOK, kind)
        self.page.wait_for_timeout(300)

    def fit(self) -> None:
        """Bring the whole workflow into view."""
        self.command("Comfy.Canvas.FitView")
        self.page.wait_for_timeout(700)  # it glides there

    def shoot(self, name: str = "", *, fit: bool = True) -> None:
        """Keep a picture of the page, at every size that is asked for."""
        self._shots.mkdir(parents=True, exist_ok=True)
        for size in self._sizes:
            self._resize(size)
            if fit:
                self.fit()
            width, height = size
            self.page.screenshot(path=self._shots / f"{name or self._test}-{width}x{height}.png")
        self._resize(LAPTOP)

    def _resize(self, size: tuple[int, int]) -> None:
        width, height = size
        if self.page.viewport_size != {"width": width, "height": height}:
            self.page.set_viewport_size({"width": width, "height": height})
