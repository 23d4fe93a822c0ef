"""Node ids, sockets and defaults are public: saved workflows depend on them.

A difference is a decision. To accept one, run this file with ADASTATE_ACCEPT=1 and say in the
changelog what old workflows will see.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FILES = ("model_name", "file")
GOLDEN = Path(__file__).parents[1] / "golden" / "node_definitions.json"


def definition(node: Any) -> dict[str, Any]:
    schema = node.GET_SCHEMA()
    return {
        "display_name": schema.display_name,
        "category": schema.category,
        "output_node": schema.is_output_node,
        "inputs": [
            {
                "id": item.id,
                "type": item.io_type,
                "optional": item.optional,
                "default": getattr(item, "default", None),
                # Files on disk are no part of the interface.
                "options": getattr(item, "options", None) if item.id not in FILES else None,
                "range": [getattr(item, "min", None), getattr(item, "max", None)],
            }
            for item in schema.inputs
        ],
        "outputs": [
            {"id": item.id, "type": item.io_type, "name": item.display_name}
            for item in schema.outputs
        ],
    }


def test_definitions_are_as_recorded(node_classes: dict[str, Any]) -> None:
    seen = {node_id: definition(node) for node_id, node in sorted(node_classes.items())}
    if os.environ.get("ADASTATE_ACCEPT"):
        GOLDEN.write_text(json.dumps(seen, indent=2) + "\n")
    assert seen == json.loads(GOLDEN.read_text())
