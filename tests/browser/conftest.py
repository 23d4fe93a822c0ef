"""ComfyUI's page in a real browser: both renderers, on the pinned page and on the newest one.

`make test-browser` sets everything up (see `tools/browser.py`); without a Chromium all of it is
skipped. Tests share a page that is cleared between them, and fail by what its console says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support.editor import DESK, LAPTOP, Editor  # noqa: E402
from tests.support.kept_page import KeptPage, change_settings, wait_until_ready  # noqa: E402
from tests.support.tiny_models import ensure_tiny_models, link_models  # noqa: E402
from tools import browser as setup  # noqa: E402
from tools.server import ComfyServer  # noqa: E402

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: make test-browser"
)

TEST_PACK = ROOT / "tests" / "support" / "test_nodes_pack"
PAGES = ("pinned", "newest")
RENDERERS = ("canvas", "vue")
SHOTS = ROOT / "output" / "browser"
FORGET = """if (!sessionStorage.getItem("adastate-test")) {
    localStorage.clear();
    sessionStorage.setItem("adastate-test", "opened");
}"""
"""What a new page begins with: it knows no workflow of the pages before it, only its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run be about one of ComfyUI's pages only, and keep more pictures."""
    parser.addoption("--page", choices=PAGES, help="which of ComfyUI's pages to test")
    parser.addoption("--desk", action="store_true", help="pictures at the size of a desk as well")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has a page on all of them, the tests of one server after each other."""
    if "page_version" in metafunc.fixturenames:
        only = metafunc.config.getoption("--page")
        chosen = [only] if only else PAGES
        metafunc.parametrize("page_version", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return the session's Chromium; what it fetched for one page it has for the next."""
    chromium = setup.find_chromium()
    if chromium is None:
        pytest.skip(setup.SKIPPED)
    with playwright.sync_playwright() as library:
        # Without the sandbox, since root may not have one; it opens nothing but our own server.
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        context = library.chromium.launch(executable_path=chromium, args=flags).new_context()
        context.add_init_script(FORGET)
        yield context


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ComfyServer]]:
    """Return a function that starts a server with more flags; stopped with the session.

    With `models` it has tiny ones, and the nodes that only tests have.
    """
    tree = os.environ.get("COMFYUI_PATH")
    if not tree:
        raise pytest.UsageError("This tier needs ComfyUI: run `make test-browser`.")
    with ExitStack() as servers:

        def start(*flags: str, models: bool = False) -> ComfyServer:
            base = tmp_path_factory.mktemp("comfyui")
            if models:
                link_models(ensure_tiny_models(Path(tree)), base / "models")
            packs = {"adastate_test": TEST_PACK} if models else None
            _settle_in(base / "user" / "default")
            (base / "input").mkdir()
            Image.new("RGB", (64, 64)).save(base / "input" / "example.png")  # as ComfyUI has one
            # Live pictures have to come without the server's help.
            flags = ("--preview-method", "none", *flags)
            server = ComfyServer(
                Path(tree), Path(sys.executable), base, ROOT, args=flags, extra_packs=packs
            )
            return servers.enter_context(server)

        yield start


def _settle_in(user: Path) -> None:
    """Make the files of somebody who is not new, which the page otherwise misses aloud."""
    for folder in ("workflows", "subgraphs"):
        (user / folder).mkdir(parents=True)
    (user / "comfy.templates.json").write_text("{}", encoding="utf-8")


@pytest.fixture(scope="session")
def page_flags(page_version: str) -> tuple[str, ...]:
    """Return the server's flags for one of ComfyUI's pages."""
    return ("--front-end-root", str(setup.fetch_page())) if page_version == "newest" else ()


@pytest.fixture(scope="session")
def page_version(request: pytest.FixtureRequest) -> str:
    """Return which of ComfyUI's pages it is about."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(start_server: Callable[..., ComfyServer], page_flags: tuple[str, ...]) -> ComfyServer:
    """Return the session's server of one of ComfyUI's pages."""
    return start_server(*page_flags)


@pytest.fixture(scope="session", params=RENDERERS)
def renderer(request: pytest.FixtureRequest) -> str:
    """Return how nodes are drawn: on a canvas, or by Vue (Nodes 2.0)."""
    return str(request.param)


@pytest.fixture(scope="session")
def kept(browser: Any) -> Iterator[KeptPage]:
    """Yield the one page that tests share."""
    page = KeptPage(browser)
    yield page
    page.drop()


@pytest.fixture
def page(
    renderer: str, kept: KeptPage, server: ComfyServer, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """Yield ComfyUI's page under one of its two renderers; `page.problems` collects its errors.

    The next test gets the same page with an empty workflow, unless this one failed.
    """
    failed = request.session.testsfailed
    if getattr(request.node, "execution_count", 1) > 1:
        kept.drop()  # what it failed on before
    yield kept.get(server, renderer)
    if request.session.testsfailed != failed:
        kept.drop()


@pytest.fixture
def editor(
    page: Any, renderer: str, page_version: str, request: pytest.FixtureRequest
) -> Iterator[Editor]:
    """Yield the page as somebody who works with it; its console must stay clean."""
    version = metadata.version("comfyui-frontend-package")
    version = setup.NEWEST_PAGE if page_version == "newest" else version
    sizes = (LAPTOP, DESK) if request.config.getoption("--desk") else (LAPTOP,)
    shots = SHOTS / f"{version}-{renderer}"
    editor = Editor(page, renderer, shots, request.node.originalname, sizes)
    yield editor
    problems = [each for each in page.problems if not editor.expects(each)]
    assert not problems, "the console says:\n" + "\n".join(problems)


@pytest.fixture
def speak(editor: Editor, server: ComfyServer, kept: KeptPage) -> Iterator[Callable[[str], None]]:
    """Yield a function that opens the page in another language; the next test has English again."""

    def open_in(language: str) -> None:
        settings = {"Comfy.VueNodes.Enabled": editor.renderer == "vue", "Comfy.Locale": language}
        change_settings(server, settings)
        editor.page.reload()
        wait_until_ready(editor.page)

    yield open_in
    change_settings(server, {"Comfy.Locale": "en"})
    kept.drop()
