"""The panel of a run: its events in order, its files, and what it may not do to a stream."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN

WORKFLOW = "0b5d3f62"


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, size=SMALL)


class Prompt:
    """A prompt as it runs: nodes by id, and the node that each is shown as."""

    def __init__(self, nodes: dict[str, Any], shown: dict[str, str] | None = None) -> None:
        self.nodes, self.shown = nodes, shown or {}

    def get_node(self, node_id: str) -> Any:
        return self.nodes[node_id]

    def get_display_node_id(self, node_id: str) -> str:
        return self.shown.get(node_id, node_id)


NODES: dict[str, Any] = {
    "text": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red\ncircle", "clip": ["c", 0]}},
    "mix": {
        "class_type": "ConditioningAverage",
        "inputs": {
            "conditioning_to": ["text", 0],
            "conditioning_from": ["other", 0],
            "conditioning_to_strength": 0.5,
        },
    },
    "7": {"class_type": "AdaStateStream", "inputs": {"positive": ["text", 0]}},
    "8": {"class_type": "AdaStateStream", "inputs": {"positive": ["mix", 0]}},
    "9": {"class_type": "AdaStateStream", "inputs": {}},
}


@pytest.fixture
def place(harness: NodeHarness) -> Iterator[Any]:
    """Return a function that says which node runs next, of which run."""
    from comfy_api.latest import io as comfy_io
    from comfy_execution.utils import CurrentNodeContext

    contexts: list[Any] = []

    def at(node: str, run: str = "run1", shown: dict[str, str] | None = None) -> None:
        while contexts:
            contexts.pop().__exit__(None, None, None)
        contexts.append(CurrentNodeContext(run, node))
        contexts[-1].__enter__()
        harness.hidden = {
            comfy_io.Hidden.unique_id: node,
            comfy_io.Hidden.dynprompt: Prompt(NODES, shown),
            comfy_io.Hidden.extra_pnginfo: {"workflow": {"id": WORKFLOW}},
        }

    yield at
    harness.hidden = {}
    while contexts:
        contexts.pop().__exit__(None, None, None)


@pytest.fixture
def events(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the panel events that the server sends, as they come."""
    from server import PromptServer

    sent: list[dict[str, Any]] = []

    def send(event: str, data: Any, sid: str | None = None) -> None:
        if event == "adastate.panel":
            sent.append(data)

    monkeypatch.setattr(PromptServer.instance, "send_sync", send)
    return sent


def tile(base_dir: Path, folder: str, name: str) -> Image.Image:
    return Image.open(io.BytesIO((base_dir / "temp" / folder / name).read_bytes()))


def test_events_come_in_order_and_name_their_files(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], base_dir: Path
) -> None:
    place("7")
    state, _ = harness.step(harness.fresh(), 2)
    kinds = [event["what"] for event in events if event["what"] != "status"]
    assert kinds == ["begin", "chunk", "chunk", "end"]
    assert {(e["workflow"], e["node"], e["run"]) for e in events} == {(WORKFLOW, "7", "run1")}
    begin = events[0]["panel"]
    assert begin["state"] == "running"
    assert (begin["chunks_wanted"], begin["steps"]) == (2, 2)
    assert (begin["width"], begin["height"]) == (SMALL[1] * 8, SMALL[0] * 8)
    first, second = (event["chunk"] for event in events if event["what"] == "chunk")
    assert [first["latents"], second["latents"]] == [c.latents for c in state.chunks]
    assert (first["frames"], second["frames"]) == (9, 12)
    assert second["start"] == pytest.approx(first["seconds"]) == pytest.approx(9 / 16)
    assert first["prompt"] == "a red circle"
    assert first["drift"] == 0.0 < second["motion"]
    for entry in (first, second):
        moving = tile(base_dir, begin["folder"], entry["tile"])
        assert (moving.format, moving.n_frames) == ("WEBP", entry["tile_frames"]) == ("WEBP", 3)
        assert moving.info["loop"] == 0
        assert tile(base_dir, begin["folder"], entry["hidden"]).size == SMALL[::-1]
    assert events[-1]["text"] == "2 chunks, 1.3 s"
    status = [event["status"]["text"] for event in events if event["what"] == "status"]
    assert any(text.startswith("chunk 1 of 2 - a red circle - ") for text in status)


def test_pictures_change_no_bit_and_a_vae_makes_moving_ones(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], vae: Any, pack: Any
) -> None:
    alone, _ = harness.step(harness.fresh(), 3)
    place("7")
    coloured, _ = harness.step(harness.fresh(), 3)
    decoded, _ = harness.step(harness.fresh(), 3, vae=vae)
    for other in (coloured, decoded):
        assert [c.latents for c in other.chunks] == [c.latents for c in alone.chunks]
        assert torch.equal(other.content(), alone.content())
    entries = [event["chunk"] for event in events if event["what"] == "chunk"]
    assert [e["source"] for e in entries] == ["latent"] * 3 + ["vae"] * 3
    assert [e["tile_frames"] for e in entries[3:]] == [9, 12, 12]
