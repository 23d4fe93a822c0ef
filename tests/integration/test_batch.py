"""The batch client: a workflow queued several times on a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_streams import base_graph, node, step
from tools import batch
from tools.server import ComfyServer


def relay(name: str) -> dict[str, Any]:
    """Return a prompt that adds a chunk to a named stream."""
    graph = base_graph()
    graph["open"] = node("AdaStateOpenStream", name=name, start=["new", 0])
    graph["step"] = step(["open", 0], 1)
    graph["commit"] = node("AdaStateCommitStream", state=["step", 0])
    return graph


def test_every_run_adds_a_chunk(
    server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = tmp_path / "relay.json"
    workflow.write_text(json.dumps(relay("batch")), encoding="utf-8")
    arguments = [str(workflow), "--times", "3", "--server", server.url]
    assert batch.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "relay, 3 of 3" in printed
    assert [f"revision {n}, {n} chunks" in printed for n in (1, 2, 3)] == [True] * 3
    assert batch.main(arguments) == 0
    assert "revision 6, 6 chunks" in capsys.readouterr().out


def test_what_goes_wrong_is_one_line(
    server: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = tmp_path / "relay.json"
    graph = relay("batch")
    graph["step"]["inputs"]["cfg"] = 3.0
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    assert batch.main([str(workflow), "--times", "2", "--server", server.url]) == 1
    shown = capsys.readouterr()
    assert "cfg: got 3.0 without a negative" in shown.err
    assert "2 of 2" not in shown.out
    assert batch.main([str(workflow), "--server", "http://127.0.0.1:9"]) == 1
    assert batch.main([str(tmp_path / "missing.json"), "--server", server.url]) == 1
