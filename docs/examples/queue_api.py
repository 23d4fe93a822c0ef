"""Queue workflows in API format on a running ComfyUI, wait, and print what they made.

python queue_api.py "../../workflows/api/01 Stream the demo world.json" --set 10.chunks=4
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def ask(url: str, body: Any = None) -> Any:
    """Return the JSON answer of the server to a GET, or to a POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refusal:
        if refusal.headers.get_content_type() != "application/json":
            raise
        return json.load(refusal)  # ComfyUI says here what is wrong with a prompt


def change(prompt: Any, setting: str) -> None:
    """Change one input, as in `6.text=a blue star`; what is not text is read as JSON."""
    name, _, value = setting.partition("=")
    node, _, field = name.rpartition(".")
    inputs = prompt.get(node, {}).get("inputs", {})
    if field not in inputs:
        raise RuntimeError(f"--set {setting}: this workflow has no input {name!r}")
    inputs[field] = value if isinstance(inputs[field], str) else json.loads(value)


def run(server: str, prompt: Any) -> dict[str, Any]:
    """Queue a prompt, wait until it is done, and return the outputs of its nodes."""
    answer = ask(f"{server}/prompt", {"prompt": prompt})
    job = answer.get("prompt_id")
    problems = [answer["error"]["message"]] if "error" in answer else []
    for node, found in answer.get("node_errors", {}).items():
        where = f"{prompt[node]['class_type']} ({node})"
        problems += [f"{where}: {e['message']}: {e['details']}" for e in found["errors"]]
    if problems:
        if job:  # ComfyUI has queued the half of the prompt that is valid
            ask(f"{server}/queue", {"delete": [job]})
            ask(f"{server}/interrupt", {"prompt_id": job})
        raise RuntimeError("\n".join(problems))
    while True:
        queued = any(job in item for part in ask(f"{server}/queue").values() for item in part)
        if entry := ask(f"{server}/history/{job}").get(job):
            break
        if not queued:
            raise RuntimeError("The workflow was taken out of the queue.")
        time.sleep(0.5)
    for event, data in entry["status"]["messages"]:
        if event in ("execution_error", "execution_interrupted"):
            said = data.get("exception_message", "was cancelled").strip()
            raise RuntimeError(f"{data['node_type']} ({data['node_id']}): {said}")
    return dict(entry["outputs"])


def show(outputs: dict[str, Any]) -> None:
    """Print the files and the texts that the nodes of a workflow put out."""
    for node, found in outputs.items():
        for item in (item for items in found.values() for item in items):
            if isinstance(item, dict) and "filename" in item:
                item = str(Path(item["type"], item["subfolder"], item["filename"]))
            if isinstance(item, str):
                print(f"  {node}: {item}", flush=True)


def main() -> int:
    """Run the files that are named, one after the other."""
    parser = argparse.ArgumentParser(description="Queue workflows in API format.")
    parser.add_argument("workflows", nargs="+", type=Path, help="files in API format")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE")
    parser.add_argument("--times", type=int, default=1, help="how often to run them all")
    options = parser.parse_args()
    files = options.workflows * options.times
    try:
        for number, file in enumerate(files, 1):
            print(f"{file.name}, {number} of {len(files)}", flush=True)
            prompt = json.loads(file.read_text(encoding="utf-8"))
            for setting in options.set:
                change(prompt, setting)
            show(run(options.server.rstrip("/"), prompt))
    except (RuntimeError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
