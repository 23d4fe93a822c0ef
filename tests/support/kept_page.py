"""One page for many tests: it takes seconds to open, and a moment to clear."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.support.console import Console
from tests.support.editor import LAPTOP
from tools.server import ComfyServer

SETTINGS = {
    "Comfy.Locale": "en",
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
    # The canvas is drawn by the processor that also makes the video.
    "LiteGraph.Canvas.MaximumFps": 10,
}
_READY = "window.app?.isGraphReady && app.extensionManager?.workflow?.activeWorkflow"
_CLEAR = """async (settings) => {
    const { command, setting, sidebarTab, toast, workflow } = app.extensionManager;
    if (toast.dismissAll) toast.dismissAll();
    else toast.removeAll();
    for (const [id, value] of Object.entries(settings)) await setting.set(id, value);
    sidebarTab.activeSidebarTabId = null;
    await command.execute("Comfy.NewBlankWorkflow");
    for (const open of [...workflow.openWorkflows])
        if (open.path !== workflow.activeWorkflow.path) await workflow.closeWorkflow(open);
}"""
_NOWHERE = (LAPTOP[0] // 2, LAPTOP[1] - 4)
"""Where no tab of a workflow is, which would show a preview over the page."""
_OPEN_STILL = "[role=dialog], [data-testid=error-overlay], .adastate-names"


class KeptPage:
    """ComfyUI's page, opened when a test needs another than there is.

    Args:
        context: Playwright's browser.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._kind: tuple[str, str] | None = None
        self._page: Any = None
        self.loads = 0

    def get(self, server: ComfyServer, renderer: str) -> Any:
        """Return the page with an empty workflow; its `problems` collect what the console says."""
        settings = {**SETTINGS, "Comfy.VueNodes.Enabled": renderer == "vue"}
        change_settings(server, settings)
        if self._kind != (server.url, renderer) or not self._clears(settings):
            self.drop()
            self._page, self._kind = self._open(server), (server.url, renderer)
        self._page.problems.clear()
        return self._page

    def drop(self) -> None:
        """Close the page, as one that a test has left in disorder."""
        if self._page is not None:
            self._page.close()
        self._page = self._kind = None

    def _open(self, server: ComfyServer) -> Any:
        self.loads += 1
        width, height = LAPTOP
        page = self._context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.problems = Console(page).problems
        page.goto(server.url)
        wait_until_ready(page)
        return page

    def _clears(self, settings: dict[str, Any]) -> bool:
        """Make the page as a new one is; return whether it is."""
        self._page.mouse.move(*_NOWHERE)
        self._page.keyboard.press("Escape")
        self._page.evaluate(_CLEAR, settings)
        return not self._page.locator(_OPEN_STILL).count()


def wait_until_ready(page: Any) -> None:
    """Wait until the page has a graph and has opened its first workflow."""
    page.wait_for_function(_READY, timeout=120_000)
    page.wait_for_selector("canvas")


def change_settings(server: ComfyServer, settings: dict[str, Any]) -> None:
    """Change settings of the server's one user, for pages that are opened from now on."""
    request = urllib.request.Request(
        f"{server.url}/settings",
        json.dumps(settings).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()
