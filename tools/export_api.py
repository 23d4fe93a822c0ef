"""Write every workflow of the pack in API format into `workflows/api`.

    python tools/environment.py run -- -m tools.export_api

The files are what ComfyUI's page queues; clients of its HTTP API send them as they are.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools import environment
from tools.client import ComfyClient
from tools.graph import to_api
from tools.server import ComfyServer

WORKFLOWS = environment.ROOT / "workflows"
PROMPTS = environment.ROOT / "workflows" / "api"
LATER = frozenset({"StartLoop"})
"""Nodes of newer versions of ComfyUI than those that are installed for the tests."""


def ask_object_info() -> dict[str, Any]:
    """Start ComfyUI, and return what it says of its nodes and the pack's."""
    with tempfile.TemporaryDirectory(prefix="adastate-export-") as scratch:
        server = ComfyServer(
            environment.tree_path(), Path(sys.executable), Path(scratch), environment.ROOT
        )
        with server, ComfyClient(server.url) as client:
            return dict(client.object_info())


def main() -> int:
    """Convert every workflow whose nodes this ComfyUI has."""
    object_info = ask_object_info()
    PROMPTS.mkdir(parents=True, exist_ok=True)
    for workflow in sorted(WORKFLOWS.glob("*.json")):
        saved = json.loads(workflow.read_text(encoding="utf-8"))
        if missing := sorted(
            LATER.intersection(n["type"] for n in saved["nodes"]) - set(object_info)
        ):
            print(f"{workflow.name}: as it was, this ComfyUI lacks {', '.join(missing)}")
            continue
        prompt = to_api(saved, object_info)
        (PROMPTS / workflow.name).write_text(json.dumps(prompt, indent=2) + "\n", "utf-8")
        print(workflow.name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
