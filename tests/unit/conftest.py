"""The core without ComfyUI: the repository's root is on the path, ComfyUI is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Tensors here are tiny: threads would wait for each other more than they compute.
torch.set_num_threads(1)

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

_HOST_MODULES = ("comfy", "comfy_api", "folder_paths", "nodes", "server")


@pytest.fixture(scope="session", autouse=True)
def _no_comfyui() -> Iterator[None]:
    """Fail the tier when anything in it pulled ComfyUI in."""
    yield
    loaded = [name for name in _HOST_MODULES if name in sys.modules]
    assert not loaded, f"The unit tier must not import the host, but loaded {loaded}."
