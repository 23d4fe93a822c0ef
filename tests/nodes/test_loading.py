"""The pack loads in ComfyUI's way, next to ComfyUI's own modules of the same names."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.forked import run_forked


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


def test_loads_from_any_folder_name(
    repository: Path, node_classes: dict[str, Any], tmp_path: Path
) -> None:
    """The Manager installs under a name of its own choice, here one with a hyphen and a dot."""
    target = tmp_path / "comfyui-ada.state"
    target.mkdir()
    for name in ("__init__.py", "nodes", "adastate_comfy", "adastate_core"):
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def names() -> list[str]:
        import nodes

        known = set(nodes.NODE_CLASS_MAPPINGS)
        assert asyncio.run(nodes.load_custom_node(str(target))), "import failed"
        return sorted(set(nodes.NODE_CLASS_MAPPINGS) - known)

    (added,) = run_forked(names)
    assert added == sorted(node_classes)
