"""ComfyUI's own classes, for tests that hold training against them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def comfy() -> Callable[[str], ModuleType]:
    """Import modules of the ComfyUI at COMFYUI_PATH by name, on the CPU."""
    path = os.environ.get("COMFYUI_PATH")
    assert path, "set COMFYUI_PATH to a ComfyUI folder"
    sys.path.insert(0, path)
    argv, sys.argv = sys.argv, ["comfy", "--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("comfy.cli_args")
    sys.argv = argv
    return importlib.import_module
