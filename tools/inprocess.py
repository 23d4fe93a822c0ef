"""ComfyUI in this process, with the pack loaded as its server loads it: for bench and evaluation.

The server stays out of it: nodes are called one after the other, so that what is timed or
measured is the nodes' own work.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tools import environment

PACK_NAME = "adastate_pack"


def open_comfyui(tree: Path | None = None, device: str = "cpu") -> None:
    """Put ComfyUI first on the import path and let it read its options, once.

    Args:
        tree: A ComfyUI tree; by default the one that `make demo` uses.
        device: `cpu`, or `cuda` for the graphics card that ComfyUI finds.
    """
    tree = tree or Path(
        os.environ.get("COMFYUI_PATH") or environment.tree_path(environment.PRIMARY)
    )
    # This repository's `nodes` folder must not hide ComfyUI's `nodes.py`.
    sys.path[:] = [str(tree), *(p for p in sys.path if p != str(tree))]
    arguments, sys.argv = sys.argv, ["comfyui", *(["--cpu"] if device == "cpu" else [])]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # reads sys.argv once, when it is imported
    finally:
        sys.argv = arguments


class Pack:
    """The pack's nodes, called directly."""

    def __init__(self) -> None:
        self.module = _load_pack()
        self._nodes = asyncio.run(_collect(self.module))

    def part(self, name: str) -> ModuleType:
        """Return a module of the pack, such as `nodes.apply`."""
        return importlib.import_module(f"{PACK_NAME}.{name}")

    def run(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """Execute one node and return its outputs."""
        import torch

        node = self._nodes[node_id].PREPARE_CLASS_CLONE({"hidden_inputs": {}})
        with torch.inference_mode():
            result: tuple[Any, ...] = node.execute(**inputs).args
        return result


def _load_pack() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        PACK_NAME,
        environment.ROOT / "__init__.py",
        submodule_search_locations=[str(environment.ROOT)],
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = module
    spec.loader.exec_module(module)
    return module


async def _collect(module: ModuleType) -> dict[str, Any]:
    extension = await module.comfy_entrypoint()
    return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}
