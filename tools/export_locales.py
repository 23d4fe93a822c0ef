"""Write what is said on the nodes into `locales/en`, which translations are made from.

    python tools/environment.py run -- -m tools.export_locales

The page looks texts up in `locales/<language>` by the ids of nodes, inputs and outputs. Run it
after a change to a node's name, description or tooltips, then change the translations with it: a
test compares them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools import environment
from tools.client import ComfyClient
from tools.server import ComfyServer

LOCALES = environment.ROOT / "locales"


def node_texts(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts of a node of `/object_info` in the form of `nodeDefs.json`."""
    inputs = {}
    for section in ("required", "optional"):
        for name, (_, *options) in info["input"].get(section, {}).items():
            given = options[0] if options else {}
            inputs[name] = _texts(given.get("display_name") or name, given.get("tooltip"))
    tooltips = info.get("output_tooltips") or []
    outputs = {
        str(number): _texts(name, tooltips[number] if number < len(tooltips) else None)
        for number, name in enumerate(info["output_name"])
    }
    texts: dict[str, Any] = {"display_name": info["display_name"]}
    if info["description"]:
        texts["description"] = info["description"]
    return {**texts, "inputs": inputs, "outputs": outputs}


def _texts(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def main() -> int:
    """Start ComfyUI, ask it for the pack's nodes, and write their texts."""
    with tempfile.TemporaryDirectory(prefix="adastate-export-") as scratch:
        server = ComfyServer(
            environment.tree_path(), Path(sys.executable), Path(scratch), environment.ROOT
        )
        with server, ComfyClient(server.url) as client:
            object_info = client.object_info()
    ours = {n: node_texts(i) for n, i in object_info.items() if n.startswith("AdaState")}
    target = LOCALES / "en" / "nodeDefs.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(ours, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"{target.relative_to(environment.ROOT)}: {len(ours)} nodes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
