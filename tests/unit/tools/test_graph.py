"""Workflow files as the editor writes them become the prompts that its page queues."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tools.graph import GraphError, to_api

OBJECT_INFO: dict[str, Any] = {
    "Load": {"input": {"required": {"name": [["a.safetensors", "b.safetensors"]]}}},
    "Sampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "steps": ["INT", {"default": 20}],
                "cfg": ["FLOAT", {"default": 1.0}],
            },
            "optional": {"note": ["STRING", {"default": ""}]},
        },
        "display_name": "Sample",
    },
    "Save": {"input": {"required": {"images": ["IMAGE"], "prefix": ["STRING", {"default": "x"}]}}},
}


def widget(name: str, kind: str, link: int | None = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "widget": {"name": name}, "link": link}


def socket(name: str, kind: str, link: int | None = None) -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link}


def node(number: int, kind: str, *values: Any, **more: Any) -> dict[str, Any]:
    outputs = [{"name": t, "type": t, "links": []} for t in more.pop("outputs", [])]
    saved = {"id": number, "type": kind, "mode": 0, "inputs": [], "outputs": outputs}
    return {**saved, "widgets_values": list(values), **more}


def load(number: int = 1, **more: Any) -> dict[str, Any]:
    return node(number, "Load", "b.safetensors", outputs=["MODEL"], **more)


def sampler(number: int, link: int | None, *values: Any, **more: Any) -> dict[str, Any]:
    inputs = [
        socket("model", "MODEL", link),
        widget("seed", "INT", more.pop("seed_link", None)),
        widget("steps", "INT"),
        widget("cfg", "FLOAT"),
        widget("note", "STRING"),
    ]
    values = values or (7, "randomize", 4, 1.5, "hello")
    return node(number, "Sampler", *values, inputs=inputs, outputs=["IMAGE"], **more)


def save(number: int, link: int | None) -> dict[str, Any]:
    inputs = [socket("images", "IMAGE", link), widget("prefix", "STRING")]
    return node(number, "Save", "out", inputs=inputs)


def convert(*nodes: dict[str, Any], links: Any = (), **more: Any) -> dict[str, dict[str, Any]]:
    return to_api({"nodes": list(nodes), "links": list(links), **more}, OBJECT_INFO)


CHAIN = ([1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "IMAGE"])
EXPECTED = {
    "1": {"name": "b.safetensors"},
    "2": {"model": ["1", 0], "seed": 7, "steps": 4, "cfg": 1.5, "note": "hello"},
    "3": {"images": ["2", 0], "prefix": "out"},
}


def inputs(prompt: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {key: each["inputs"] for key, each in prompt.items()}


@pytest.mark.parametrize("objects", [False, True])
def test_values_go_to_names_and_links_to_their_ends(objects: bool) -> None:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(names, link, strict=True)) if objects else link for link in CHAIN]
    prompt = convert(load(), sampler(2, 1), save(3, 2), links=links)
    assert inputs(prompt) == EXPECTED
    assert prompt["2"]["class_type"] == "Sampler"


def test_leftover_and_missing_values() -> None:
    """An update that took a widget away, or brought one, leaves the others in their places."""
    more = sampler(2, 1, 7, "fixed", 4, 1.5, "hello", "of an older version")
    assert inputs(convert(load(), more, links=CHAIN[:1]))["2"] == EXPECTED["2"]
    fewer = sampler(2, 1, 7, "fixed", 4)
    found = inputs(convert(load(), fewer, links=CHAIN[:1]))["2"]
    assert (found["seed"], found["steps"], found["cfg"]) == (7, 4, 1.0)


@pytest.mark.parametrize("kind", ["Note", "MarkdownNote", "Label (of another pack)"])
def test_decoration_is_not_queued(kind: str) -> None:
    note = node(9, kind, "text")
    assert inputs(convert(note, load(), sampler(2, 1), save(3, 2), links=CHAIN)) == EXPECTED


def test_reroutes_and_set_get_pairs_are_followed() -> None:
    reroute = node(5, "Reroute", inputs=[socket("", "*", 1)], outputs=["*"])
    put = node(6, "SetNode", "model", inputs=[socket("MODEL", "MODEL", 4)], outputs=["*"])
    get = node(7, "GetNode", "model", outputs=["MODEL"])
    links = (
        [1, 1, 0, 5, 0, "MODEL"],
        [4, 5, 0, 6, 0, "MODEL"],
        [5, 7, 0, 2, 0, "MODEL"],
        CHAIN[1],
    )
    prompt = convert(load(), reroute, put, get, sampler(2, 5), save(3, 2), links=links)
    assert inputs(prompt) == EXPECTED


def test_a_primitive_gives_its_value() -> None:
    primitive = node(5, "PrimitiveNode", 33, "fixed", outputs=["INT"])
    links = (CHAIN[0], [6, 5, 0, 2, 1, "INT"])
    prompt = convert(load(), primitive, sampler(2, 1, seed_link=6), links=links)
    assert inputs(prompt)["2"] == {**EXPECTED["2"], "seed": 33}


def test_muted_nodes_are_left_out_and_bypassed_ones_passed_through() -> None:
    muted = convert(load(), sampler(2, 1), save(3, 2) | {"mode": 2}, links=CHAIN)
    assert set(muted) == {"1", "2"}
    patch = node(5, "Patch", inputs=[socket("model", "MODEL", 1)], outputs=["MODEL"], mode=4)
    links = ([1, 1, 0, 5, 0, "MODEL"], [4, 5, 0, 2, 0, "MODEL"], CHAIN[1])
    assert inputs(convert(load(), patch, sampler(2, 4), save(3, 2), links=links)) == EXPECTED


def test_a_subgraph_is_unpacked() -> None:
    inner = {
        "id": "11111111-2222-4333-8444-555555555555",
        "name": "Stage",
        "inputs": [{"name": "model", "type": "MODEL", "linkIds": [10]}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "linkIds": [11]}],
        "nodes": [sampler(2, 10)],
        "links": [
            {
                "id": 10,
                "origin_id": -10,
                "origin_slot": 0,
                "target_id": 2,
                "target_slot": 0,
                "type": "MODEL",
            },
            {
                "id": 11,
                "origin_id": 2,
                "origin_slot": 0,
                "target_id": -20,
                "target_slot": 0,
                "type": "IMAGE",
            },
        ],
    }
    outer = node(4, inner["id"], inputs=[socket("model", "MODEL", 1)], outputs=["IMAGE"])
    links = ([1, 1, 0, 4, 0, "MODEL"], [2, 4, 0, 3, 0, "IMAGE"])
    prompt = convert(load(), outer, save(3, 2), links=links, definitions={"subgraphs": [inner]})
    (stage,) = (key for key, each in prompt.items() if each["class_type"] == "Sampler")
    assert prompt[stage]["inputs"] == EXPECTED["2"]
    assert prompt["3"]["inputs"]["images"] == [stage, 0]


def test_a_node_that_the_server_lacks_is_named() -> None:
    other = node(5, "Other", inputs=[socket("model", "MODEL", 1)], outputs=["MODEL"])
    links = ([1, 1, 0, 5, 0, "MODEL"], [4, 5, 0, 2, 0, "MODEL"])
    with pytest.raises(GraphError, match="Node 5 has the type Other, which the server lacks"):
        convert(load(), other, sampler(2, 4), links=links)


def test_what_is_no_workflow_is_refused() -> None:
    with pytest.raises(GraphError, match="no list of nodes"):
        to_api({"1": {"class_type": "Load", "inputs": {}}}, OBJECT_INFO)


def test_without_the_converter_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "comfy_cli.workflow_to_api", None)
    with pytest.raises(GraphError, match="pip install comfy-cli, or save the workflow"):
        convert(load())
