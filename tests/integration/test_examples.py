"""The example for users of the HTTP API, as they start it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_streams import base_graph, node, step
from tools.server import ComfyServer

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "examples" / "queue_api.py"
SMALLEST = ROOT / "workflows" / "api" / "02 Render a long video.json"


def queue_api(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def written(folder: Path, name: str, graph: dict[str, Any]) -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    return file


@pytest.mark.floor
def test_a_shipped_workflow_runs_with_changed_inputs(server: ComfyServer, tmp_path: Path) -> None:
    prompt = json.loads(SMALLEST.read_text(encoding="utf-8"))
    (render,) = (n for n, made in prompt.items() if made["class_type"] == "AdaStateRender")
    notes = [
        written(tmp_path, name, {"7": node("PreviewAny", source=f"from {name}")})
        for name in ("one", "another")
    ]
    changes = ("--set", f"{render}.chunks=1", "--set", f"{render}.filename_prefix=batch/two=2")
    done = queue_api(SMALLEST, "--server", server.url, *changes)
    assert done.returncode == 0, done.stderr
    assert f"{SMALLEST.name}, 1 of 1" in done.stdout
    (video,) = (line for line in done.stdout.splitlines() if line.endswith(".mp4"))
    name = video.partition(": ")[2]
    assert Path(name).parent == Path("output/batch")
    assert Path(name).name.startswith("two=2")
    assert (server.base_dir / name).is_file()

    done = queue_api(*notes, "--times", "2", "--server", server.url)
    assert done.returncode == 0, done.stderr
    # What is queued again is cached, and older servers do not repeat its outputs.
    assert done.stdout.startswith(
        "one.json, 1 of 4\n  7: from one\nanother.json, 2 of 4\n  7: from another\n"
    )
    assert "another.json, 4 of 4\n" in done.stdout


def test_a_node_that_fails_is_named_and_what_follows_does_not_run(
    server: ComfyServer, tmp_path: Path
) -> None:
    graph = base_graph()
    graph["step"] = step(["new", 0], 1)
    graph["show"] = node("AdaStateTestDigest", value=["step", 1])
    graph["step"]["inputs"]["cfg"] = 3.0
    file = written(tmp_path, "fails", graph)
    done = queue_api(file, file, "--server", server.url)
    assert done.returncode == 1
    assert "AdaStateStream (step): " in done.stderr
    assert "cfg above 1 needs a negative prompt. Connect one to negative" in done.stderr
    assert "2 of 2" not in done.stdout
    assert queue_api(file, "--server", server.url, "--set", "step.cfg=1").returncode == 0


@pytest.mark.parametrize("half", [False, True], ids=["all of it", "one of two outputs"])
def test_a_prompt_that_is_refused_says_which_input(
    server: ComfyServer, tmp_path: Path, half: bool
) -> None:
    graph = base_graph()
    graph["step"] = step(["new", 0], 1, chunks=0)
    graph["show"] = node("AdaStateTestDigest", value=["step", 1])
    if half:
        graph["note"] = node("PreviewAny", source="valid")
    done = queue_api(written(tmp_path, "refused", graph), "--server", server.url)
    assert done.returncode == 1
    assert "AdaStateStream (step): Value 0 smaller than min of 1: chunks" in done.stderr


def test_what_cannot_be_asked_is_one_line(server: ComfyServer, tmp_path: Path) -> None:
    file = written(tmp_path, "note", {"7": node("PreviewAny", source="hello")})
    for arguments, message in (
        ((file, "--set", "8.source=x"), "no input '8.source'"),
        ((file, "--set", "source=x"), "no input 'source'"),
        ((tmp_path / "missing.json",), "missing.json"),
        ((file, "--server", "http://127.0.0.1:9"), "refused"),
    ):
        done = queue_api("--server", server.url, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
