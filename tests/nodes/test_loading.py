"""The pack loads in ComfyUI's way, next to ComfyUI's own modules of the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def test_nodes_of_pack_and_host_live_side_by_side(pack: ModuleType) -> None:
    import nodes

    assert Path(nodes.__file__).parent == Path(os.environ["COMFYUI_PATH"])
    assert f"{pack.__name__}.nodes" in sys.modules
    assert "adastate_core" not in sys.modules, "the core was imported a second time, by its path"


def test_entry_point_is_the_only_registration(
    pack: ModuleType, node_classes: dict[str, Any]
) -> None:
    # ComfyUI ignores the entry point of a pack that also exports the older mappings.
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")
    assert node_classes
    assert all(node_id.startswith("AdaState") for node_id in node_classes)


def test_loads_from_any_folder_name(repository: Path, tmp_path: Path) -> None:
    """The Manager installs under a name of its own choice, here one with a hyphen and a dot."""
    target = tmp_path / "comfyui-ada.state"
    target.mkdir()
    for name in ("__init__.py", "nodes", "adastate_comfy", "adastate_core"):
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    code = (
        "import sys, asyncio; sys.argv = ['x', '--cpu']; sys.path[0] = sys.path[0] or '.'\n"
        f"sys.path.insert(0, {os.environ['COMFYUI_PATH']!r})\n"
        "import comfy.options; comfy.options.enable_args_parsing()\n"
        "import nodes, server; server.PromptServer(asyncio.new_event_loop())\n"
        f"assert asyncio.run(nodes.load_custom_node({str(target)!r})), 'import failed'\n"
        "print([n for n in nodes.NODE_CLASS_MAPPINGS if n.startswith('AdaState')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "AdaStateApply" in done.stdout
