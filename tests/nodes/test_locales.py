"""What translations are made from is what the nodes say."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest


def test_english_texts_are_those_of_the_nodes(
    repository: Path, node_classes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Last on the path, since the root's `nodes` must not hide ComfyUI's.
    monkeypatch.setattr(sys, "path", [*sys.path, str(repository)])
    export = importlib.import_module("tools.export_locales")
    said = {
        node_id: export.node_texts(node.GET_NODE_INFO_V1())
        for node_id, node in node_classes.items()
    }
    written = json.loads((repository / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    assert written == said, "Run tools/export_locales.py, and change the translations with it"
