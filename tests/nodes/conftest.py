"""ComfyUI in this process, and the pack loaded as ComfyUI's server loads it.

Runs with `COMFYUI_PATH` naming a ComfyUI tree; `make test TIERS=nodes` sets it. It computes on the
CPU unless `ADASTATE_TEST_DEVICE` is `cuda`. The repository's
root must stay off the import path, because its `nodes` folder would hide ComfyUI's `nodes.py`: test
modules reach the pack through the fixtures below, and may import `comfy...` as they like.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tomllib
import torch

ROOT = Path(__file__).parents[2]
PACK_NAME = "adastate_pack"

# Removed when the process ends; ComfyUI's folders for models, input and output lie in it.
_base = tempfile.TemporaryDirectory(prefix="adastate-nodes-")


def _open_comfyui() -> Path:
    """Put ComfyUI first on the path and let it read its options, before any test imports it."""
    tree = os.environ.get("COMFYUI_PATH")
    if not tree:
        raise pytest.UsageError("The nodes tier needs ComfyUI: run `make test TIERS=nodes`.")
    own = (str(ROOT), "")
    sys.path[:] = [tree, *(p for p in sys.path if p not in own)]
    flags = [] if os.environ.get("ADASTATE_TEST_DEVICE") == "cuda" else ["--cpu"]
    arguments, sys.argv = sys.argv, ["x", *flags, "--base-directory", _base.name]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # reads sys.argv once, when it is imported
    finally:
        sys.argv = arguments
    return Path(tree)


COMFYUI = _open_comfyui()

# Tensors here are tiny: threads would wait for each other more than they compute.
torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `newest` where the tree is the oldest supported ComfyUI.

    So are marked: tests of our own arithmetic, bookkeeping and files that take long, and go
    through no interface of the host that another test does not go through on either version.
    """
    import comfyui_version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = project["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    if comfyui_version.__version__ != oldest:
        return
    left_out = [item for item in items if item.get_closest_marker("newest")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("newest")]


@pytest.fixture(scope="session")
def comfyui_version() -> str:
    """Return the version of the ComfyUI under test."""
    import comfyui_version

    return str(comfyui_version.__version__)


@pytest.fixture(scope="session")
def base_dir() -> Path:
    """Return the folder that holds ComfyUI's models, input, output and temp folders."""
    import folder_paths

    for folder in ("input", "output", "temp", "models"):
        (Path(_base.name) / folder).mkdir(exist_ok=True)
    assert Path(folder_paths.get_output_directory()).parent == Path(_base.name)
    return Path(_base.name)


@pytest.fixture(scope="session")
def pack(base_dir: Path) -> ModuleType:
    """Return the pack's module, imported as ComfyUI's `load_custom_node` does it."""
    import server

    # Packs may register routes at import, so the server object has to exist by then.
    if getattr(server.PromptServer, "instance", None) is None:
        server.PromptServer(asyncio.new_event_loop())
    spec = importlib.util.spec_from_file_location(PACK_NAME, ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def core(pack: ModuleType) -> ModuleType:
    """Return the pack's own copy of the core, whose classes its nodes use."""
    return importlib.import_module(f"{PACK_NAME}.adastate_core")


@pytest.fixture(scope="session")
def node_classes(pack: ModuleType) -> dict[str, Any]:
    """Return the pack's node classes by node id, from its entry point."""

    async def collect() -> dict[str, Any]:
        extension = await pack.comfy_entrypoint()
        await extension.on_load()
        return {cls.GET_SCHEMA().node_id: cls for cls in await extension.get_node_list()}

    return asyncio.run(collect())


@pytest.fixture(scope="session")
def tiny_models(base_dir: Path) -> Path:
    """Return the models folder with tiny random checkpoints, known to `folder_paths`."""
    from tests.support.tiny_models import ensure_tiny_models, link_models

    link_models(ensure_tiny_models(COMFYUI), base_dir / "models")
    return base_dir / "models"


@pytest.fixture(scope="module")
def vae(tiny_models: Path) -> Any:
    """Return a tiny VAE of Wan 2.1."""
    import nodes
    from tests.support.tiny_models import WAN_VAE

    return nodes.VAELoader().load_vae(WAN_VAE)[0]


@pytest.fixture
def output(base_dir: Path, request: pytest.FixtureRequest) -> Path:
    """Return the folder that `render` of this test writes to, whatever tests of other files do."""
    return base_dir / "output" / f"{request.path.stem}-{request.node.name}"


@pytest.fixture
def render(harness: Any, vae: Any, output: Path) -> Any:
    """Return a function that renders with the `harness` of the test module."""

    def run(state: Any, chunks: int = 2, *, model: Any = None, **options: Any) -> tuple[Any, Any]:
        import comfy.samplers

        from tests.support.harness import conditioning

        return harness.run(
            "AdaStateRender",
            model or harness.model,
            state=state,
            cfg=1.0,
            sampler=comfy.samplers.sampler_object("lcm"),
            sigmas=torch.tensor((1.0, 0.6, 0.0)),
            seed=0,
            chunks=chunks,
            fps=16.0,
            filename_prefix=f"{output.name}/video",
            **{"positive": conditioning(0), "vae": vae, **options},
        )

    return run


@pytest.fixture
def video(pack: Any) -> SimpleNamespace:
    """Return the modules of the pack that are tried here."""
    names = ("bounded_worker", "decoders", "device_copies", "video_file")
    path = f"{pack.__name__}.adastate_comfy.video"
    return SimpleNamespace(**{name: importlib.import_module(f"{path}.{name}") for name in names})


@pytest.fixture
def nothing_compiled() -> Iterator[None]:
    """Keep what a test compiles to itself: torch shares it between models of one class."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
