"""A real ComfyUI server with this pack, tiny models and the test-only nodes.

`COMFYUI_PATH` names the tree; `make test TIERS=integration` sets it. The interpreter that runs the
tests runs the server too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support.tiny_models import ensure_tiny_models, link_models  # noqa: E402
from tools.client import ComfyClient  # noqa: E402
from tools.export_api import LATER  # noqa: E402
from tools.graph import to_api  # noqa: E402
from tools.server import ComfyServer  # noqa: E402

TEST_PACK = ROOT / "tests" / "support" / "test_nodes_pack"

NEWER = LATER | {"EmptyMiniMaxH3LatentAV"}
"""Nodes of ComfyUI's that came after the oldest version that is supported."""

ServerFactory = Callable[..., ComfyServer]


@pytest.fixture(scope="session")
def comfyui_tree() -> Path:
    """Return the ComfyUI tree under test."""
    tree = os.environ.get("COMFYUI_PATH")
    if not tree:
        raise pytest.UsageError("This tier needs ComfyUI: run `make test TIERS=integration`.")
    return Path(tree)


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory, comfyui_tree: Path
) -> Iterator[ServerFactory]:
    """Return a function that starts a new server with extra flags; stopped with the session.

    Every server has a base directory of its own, because a starting ComfyUI empties its temp
    folder.
    """
    models = ensure_tiny_models(comfyui_tree)
    with ExitStack() as servers:

        def start(*flags: str) -> ComfyServer:
            base = tmp_path_factory.mktemp("comfyui")
            link_models(models, base / "models")
            server = ComfyServer(
                comfyui_tree,
                Path(sys.executable),
                base,
                ROOT,
                args=flags,
                extra_packs={"adastate_test": TEST_PACK},
            )
            return servers.enter_context(server)

        yield start


@pytest.fixture(scope="session")
def server_with(start_server: ServerFactory) -> ServerFactory:
    """Return a function that gives one running server per set of flags, reused by later calls.

    As in `server_with("--cache-none")`. Tests that stop or kill a server take `mortal_server`.
    """
    running: dict[tuple[str, ...], ComfyServer] = {}

    def get(*flags: str) -> ComfyServer:
        if flags not in running or not running[flags].is_alive():
            running[flags] = start_server(*flags)
        return running[flags]

    return get


@pytest.fixture(scope="session")
def _mortal_server(start_server: ServerFactory) -> ComfyServer:
    return start_server()


@pytest.fixture
def mortal_server(_mortal_server: ComfyServer) -> ComfyServer:
    """Return a running server that a test may stop or kill, which is then started again.

    Such tests share one, with all it has written: a start costs more than most of them.
    """
    if not _mortal_server.is_alive():
        _mortal_server.__enter__()
    return _mortal_server


@pytest.fixture(scope="session")
def server(server_with: ServerFactory) -> ComfyServer:
    """Return the session's server with ComfyUI's default cache."""
    return server_with()


@pytest.fixture(scope="session")
def base_dir(server: ComfyServer) -> Path:
    """Return the default server's base directory: models, input, output."""
    return server.base_dir


@pytest.fixture
def connect() -> Iterator[Callable[[ComfyServer], ComfyClient]]:
    """Return a function that connects a client to a server; closed after the test."""
    with ExitStack() as clients:
        yield lambda server: clients.enter_context(ComfyClient(server.url))


@pytest.fixture
def client(connect: Callable[[ComfyServer], ComfyClient], server: ComfyServer) -> ComfyClient:
    """Return a client of the default server."""
    return connect(server)


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, Any]:
    """Return the node definitions of the default server."""
    with ComfyClient(server.url) as session_client:
        return session_client.object_info()


def skip_if_newer(workflow: dict[str, Any], object_info: dict[str, Any]) -> None:
    """Skip what needs a node that this ComfyUI does not have yet."""
    used = {node["type"] for node in workflow["nodes"]}
    missing = sorted(used.intersection(NEWER) - set(object_info))
    if missing:
        pytest.skip(f"this ComfyUI lacks {', '.join(missing)}")


@pytest.fixture
def load_workflow(object_info: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """Return a function that reads `workflows/<name>` and converts it to the API format."""

    def load(name: str) -> dict[str, Any]:
        saved = json.loads((ROOT / "workflows" / name).read_text(encoding="utf-8"))
        skip_if_newer(saved, object_info)
        return to_api(saved, object_info)

    return load
