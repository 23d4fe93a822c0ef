"""ComfyUI's page in a real browser, on the integration tier's server.

Needs Playwright and a Chromium; `CHROMIUM_PATH` names one that Playwright did not install itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.integration.conftest import (  # noqa: E402, F401
    comfyui_tree,
    server,
    server_with,
    start_server,
)
from tools.server import ComfyServer  # noqa: E402

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright and a Chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as library:
        path = os.environ.get("CHROMIUM_PATH")
        yield library.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture(params=["canvas", "vue"])
def page(request: pytest.FixtureRequest, browser: Any, server: ComfyServer) -> Iterator[Any]:  # noqa: F811
    """Yield ComfyUI's page under one of its two renderers; `page.problems` collects its errors."""
    opened = browser.new_page(viewport={"width": 1800, "height": 1200})
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("console", lambda message: _note(opened.problems, message))
    opened.goto(server.url)
    opened.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=120_000)
    opened.wait_for_selector("canvas")
    for name, value in (
        ("Comfy.TutorialCompleted", True),
        ("Comfy.VueNodes.Enabled", request.param == "vue"),
    ):
        opened.evaluate(
            "([name, value]) => app.extensionManager.setting.set(name, value)", [name, value]
        )
    yield opened
    opened.close()


def _note(problems: list[str], message: Any) -> None:
    """Collect errors and warnings that come from this pack; a bare server has some of its own."""
    if message.type in ("error", "warning"):
        text = f"{message.text} {message.location.get('url', '')}"
        # The page asks for a help page in the user's language first; we have the plain one.
        if "adastate" in text.lower() and not text.endswith("/en.md"):
            problems.append(text)
