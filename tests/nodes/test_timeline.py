"""What Stream Timeline expands into: a chain of steps, or blocks of them for a long one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.studio import NodeStudio
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def studio(node_classes: dict[str, Any], tiny_models: Any) -> NodeStudio:
    return NodeStudio(node_classes, WAN)


def expanded(studio: NodeStudio, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes that Stream Timeline becomes."""
    from comfy_api.latest import io
    from comfy_execution.graph import DynamicPrompt
    from comfy_execution.graph_utils import GraphBuilder

    GraphBuilder.set_default_prefix("7", 0, 0)  # as the executor does before every node

    prompt = DynamicPrompt({"7": {"class_type": "AdaStateStreamTimeline", "inputs": inputs}})
    node = studio.nodes["AdaStateStreamTimeline"].PREPARE_CLASS_CLONE(
        {"hidden_inputs": {io.Hidden.unique_id: "7", io.Hidden.dynprompt: prompt}}
    )
    given = {"model": studio.model, "state": studio.fresh()}
    constants = {name: inputs[name] for name in ("timeline", "chunks", "fps")}
    return dict(node.execute(**given, **constants).expand)


def wired(chunks: int, timeline: str) -> dict[str, Any]:
    links = {name: [name, 0] for name in ("model", "state", "clip", "sampler", "sigmas")}
    return {**links, "timeline": timeline, "cfg": 1.0, "seed": 3, "chunks": chunks, "fps": 16.0}


def of_kind(nodes: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node["inputs"] for node in nodes.values() if node["class_type"] == kind]


TIMELINE = "0: a\n5 blend 3: b\n30 recache: c\n31 flush 2: d"


def test_a_short_timeline_is_one_chain(studio: NodeStudio) -> None:
    nodes = expanded(studio, wired(100, TIMELINE))
    assert len(of_kind(nodes, "AdaStateStream")) == 100
    assert not of_kind(nodes, "AdaStateStreamTimeline")
    assert [n["transition"] for n in of_kind(nodes, "AdaStateTransition")] == ["recache", "flush"]


def test_a_long_timeline_is_blocks_of_the_same_steps(studio: NodeStudio) -> None:
    nodes = expanded(studio, wired(400, TIMELINE))
    blocks = of_kind(nodes, "AdaStateStreamTimeline")
    assert [block["chunks"] for block in blocks] == [20] * 20
    assert len(of_kind(nodes, "CLIPTextEncode")) == 4  # each prompt once, not once a block
    assert [block["timeline"] for block in blocks[:2]] == [
        "chunk 0: -", "chunk 20: -\nchunk 30 recache: -\nchunk 31 flush 2: -",
    ]  # fmt: skip
    first = {**blocks[0], "state": ["state", 0]}
    steps = of_kind(expanded(studio, first), "AdaStateStream")
    short = of_kind(expanded(studio, wired(20, TIMELINE)), "AdaStateStream")
    assert len(steps) == len(short) == 20
    assert [s["positive"] for s in steps] == [s["positive"] for s in short]
    assert {s["seed"] for s in steps} == {3}
    # An edit leaves the blocks before it as they were.
    edited = of_kind(expanded(studio, wired(400, TIMELINE + "1")), "AdaStateStreamTimeline")
    assert [edited[0], blocks[2] == edited[2]] == [blocks[0], False]
