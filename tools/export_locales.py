"""Write what nodes and scripts say into `locales/en`, which translations are made from.

    python tools/environment.py run -- -m tools.export_locales

The page looks texts up in `locales/<language>` by the ids of nodes, inputs and outputs. Run it
after a change to a node's name, description or tooltips, or to a text of a script, then change the
translations with it: a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tools import environment
from tools.export_api import ask_object_info
from tools.script_texts import script_texts

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
    """Write the texts of the pack's nodes and of its scripts."""
    nodes = ask_object_info().items()
    ours = {name: node_texts(info) for name, info in nodes if name.startswith("AdaState")}
    _write("nodeDefs", ours)
    write_script_texts()
    return 0


def write_script_texts() -> None:
    """Write the scripts' texts beside what else is in `main.json`."""
    known = json.loads((LOCALES / "en" / "main.json").read_text("utf-8"))
    texts = {text: text for text in script_texts(environment.ROOT / "web" / "js")}
    _write("main", {**known, "adastate": texts})


def _write(name: str, content: Mapping[str, Any]) -> None:
    target = LOCALES / "en" / f"{name}.json"
    target.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"{target.relative_to(environment.ROOT)} is written")


if __name__ == "__main__":
    raise SystemExit(main())
