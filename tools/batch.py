"""Queue a workflow several times on a running ComfyUI and follow it.

    python -m tools.batch "my workflow.json" --times 10

Takes a prompt in API format, or, with comfy-cli installed, a workflow as the editor saves it. Needs
nothing of this pack and else only what ComfyUI itself needs (aiohttp), so it also runs on another
machine than the server.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import ClientError

from tools.client import ComfyClient, PromptError
from tools.graph import GraphError, to_api
from tools.progress_bar import PromptBar


def main(arguments: Sequence[str] | None = None) -> int:
    """Queue from the command line; the first prompt that fails ends it."""
    parser = argparse.ArgumentParser(prog="tools.batch", description=__doc__.split("\n")[0])
    parser.add_argument("workflow", type=Path, help="a workflow file")
    parser.add_argument("--times", type=int, default=1, help="how often, 1 by default")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="address of ComfyUI")
    options = parser.parse_args(arguments)
    try:
        with ComfyClient(options.server) as client:
            prompt = load_prompt(options.workflow, client)
            for run in range(1, options.times + 1):
                print(f"{options.workflow.stem}, {run} of {options.times}", flush=True)
                _run(client, prompt)
    except (PromptError, GraphError, ClientError, OSError, ValueError) as error:
        print(f"batch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbatch: stopped; a prompt that runs goes on", file=sys.stderr)
        return 130
    return 0


def load_prompt(workflow: Path, client: ComfyClient) -> dict[str, Any]:
    """Read a workflow in either format as a prompt for the queue.

    Raises:
        OSError, ValueError, GraphError: If it cannot be read or converted.
    """
    content: dict[str, Any] = json.loads(workflow.read_text(encoding="utf-8"))
    return to_api(content, client.object_info()) if "nodes" in content else content


def _run(client: ComfyClient, prompt: dict[str, Any]) -> None:
    bar = PromptBar(prompt)
    result = client.run(prompt, bar.update, timeout=float("inf"))
    bar.close()
    for file in result.files(Path()):
        print(f"  {file.as_posix()}")
    for output in result.outputs.values():
        for text in output.get("text", ()):
            if len(str(text)) < 200:  # a sentence, not a report
                print(f"  {text}")


if __name__ == "__main__":
    raise SystemExit(main())
