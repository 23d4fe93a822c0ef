"""Node ids, sockets and defaults are public: saved workflows depend on them.

A difference is a decision. To accept one, run this file with ADASTATE_ACCEPT=1 and say in the
changelog what old workflows will see.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

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


def test_execute_takes_what_the_schema_declares(node_classes: dict[str, Any]) -> None:
    """A signature that drifts from its schema fails in one workflow of many only."""
    for node_id, node in node_classes.items():
        inputs = {item.id: item for item in node.GET_SCHEMA().inputs}
        parameters = inspect.signature(node.execute).parameters
        hints = get_type_hints(node.execute)
        assert sorted(parameters) == sorted(inputs), node_id
        for name, parameter in parameters.items():
            where, item = f"{node_id}.execute, {name}", inputs[name]
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, where
            assert name in hints, f"{where}: not annotated"
            has_default = parameter.default is not inspect.Parameter.empty
            assert has_default or not item.optional, f"{where}: optional without a default"
            if has_default:
                declared = getattr(item, "default", None)
                assert parameter.default == declared, where
                assert type(parameter.default) is type(declared), where
            choices = literals(hints[name])
            assert not choices or choices == set(item.options), where


def literals(hint: Any) -> set[Any]:
    """Return the values of a Literal, or of several that are joined by `|`."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {value for part in get_args(hint) for value in literals(part)}
