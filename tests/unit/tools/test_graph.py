"""Workflow files of every kind the editor writes, against hand-written node definitions."""

from __future__ import annotations

from typing import Any

import pytest

from tools.graph import GraphError, to_api


def definition(
    required: dict[str, Any] | None = None,
    optional: dict[str, Any] | None = None,
    order: dict[str, list[str]] | None = None,
    display_name: str | None = None,
) -> dict[str, Any]:
    info: dict[str, Any] = {"input": {"required": required or {}, "optional": optional or {}}}
    if order:
        info["input_order"] = order
    if display_name:
        info["display_name"] = display_name
    return info


OBJECT_INFO = {
    "Load": definition({"name": [["a.safetensors", "b.safetensors"]]}),
    "Sampler": definition(
        {
            "model": ["MODEL"],
            "seed": ["INT", {"default": 0, "control_after_generate": True}],
            "steps": ["INT", {"default": 20}],
            "cfg": ["FLOAT", {"default": 1.0}],
        },
        {"note": ["STRING", {"default": ""}], "image": ["IMAGE"]},
        display_name="Sample",
    ),
    "OldSampler": definition({"noise_seed": ["INT", {}], "steps": ["INT", {}]}),
    "PlainSeed": definition({"seed": ["INT", {"control_after_generate": False}]}),
    "Picky": definition({"choice": ["COMBO", {"options": ["x"], "control_after_generate": True}]}),
    "LoadImage": definition(
        {"image": [["one.png"], {"image_upload": True}]}, {"tail": ["INT", {"default": 1}]}
    ),
    "Flags": definition(
        {"on": ["BOOLEAN", {"default": True}], "forced": ["INT", {"forceInput": 1}]}
    ),
    "Save": definition({"images": ["IMAGE"], "prefix": ["STRING", {"default": "x"}]}),
    "SaveVideo": definition(
        {
            "prefix": ["STRING", {}],
            "codec": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {"key": "auto", "inputs": {}},
                        {
                            "key": "h264",
                            "inputs": {"required": {"crf": ["FLOAT", {"default": 23.0}]}},
                        },
                    ]
                },
            ],
            "tail": ["STRING", {}],
        }
    ),
    "PreviewAny": definition({"source": ["*", {}]}),
    "Curve": definition({"curve": ["CURVE", {}], "steps": ["INT", {}]}),
}


def node(number: int, kind: str, *values: Any, **more: Any) -> dict[str, Any]:
    """Return a node as the editor saves it; `inputs` are (name, type, link) triples."""
    inputs = [{"name": n, "type": t, "link": k} for n, t, k in more.pop("inputs", [])]
    outputs = [{"name": t, "type": t} for t in more.pop("outputs", [])]
    saved = {"id": number, "type": kind, "mode": 0, "inputs": inputs, "outputs": outputs}
    return {**saved, "widgets_values": list(values), **more}


def convert(*nodes: dict[str, Any], links: Any = (), **more: Any) -> dict[str, dict[str, Any]]:
    return to_api({"nodes": list(nodes), "links": list(links), **more}, OBJECT_INFO)


def inputs_of(*nodes: dict[str, Any], links: Any = ()) -> dict[str, Any]:
    """Return the inputs of the first node."""
    return convert(*nodes, links=links)[str(nodes[0]["id"])]["inputs"]


class TestWidgets:
    def test_values_go_to_names_by_position_and_the_seed_control_is_dropped(self) -> None:
        sampler = node(1, "Sampler", 7, "randomize", 4, 1.5, "hello")
        assert inputs_of(sampler) == {"seed": 7, "steps": 4, "cfg": 1.5, "note": "hello"}

    def test_seed_names_have_a_control_also_when_the_definition_is_silent(self) -> None:
        assert inputs_of(node(1, "OldSampler", 7, "fixed", 4)) == {"noise_seed": 7, "steps": 4}

    def test_a_seed_may_declare_that_it_has_no_control(self) -> None:
        assert inputs_of(node(1, "PlainSeed", 7)) == {"seed": 7}

    def test_control_of_a_combo_brings_a_filter_text(self) -> None:
        assert inputs_of(node(1, "Picky", "x", "fixed", "")) == {"choice": "x"}

    def test_missing_values_take_defaults_and_first_choices(self) -> None:
        assert inputs_of(node(1, "Sampler", 7, "fixed")) == {
            "seed": 7,
            "steps": 20,
            "cfg": 1.0,
            "note": "",
        }
        assert inputs_of(node(1, "Load")) == {"name": "a.safetensors"}

    def test_input_order_of_the_definition_counts(self) -> None:
        info = {"N": definition({"b": ["INT"], "a": ["INT"]}, order={"required": ["a", "b"]})}
        prompt = to_api({"nodes": [node(1, "N", 1, 2)]}, info)
        assert prompt["1"]["inputs"] == {"a": 1, "b": 2}

    def test_upload_button_follows_the_required_inputs(self) -> None:
        image = node(1, "LoadImage", "one.png", "image", 5)
        assert inputs_of(image) == {"image": "one.png", "tail": 5}

    def test_forced_inputs_have_no_value(self) -> None:
        assert inputs_of(node(1, "Flags", False)) == {"on": False}

    def test_chosen_option_of_a_dynamic_combo_brings_its_own_inputs(self) -> None:
        auto = inputs_of(node(1, "SaveVideo", "p", "auto", "end"))
        assert auto == {"prefix": "p", "codec": "auto", "tail": "end"}
        h264 = inputs_of(node(1, "SaveVideo", "p", "h264", 18.0, "end"))
        assert h264 == {"prefix": "p", "codec": "h264", "codec.crf": 18.0, "tail": "end"}

    def test_values_saved_by_name_are_taken_by_name(self) -> None:
        saved = {"seed": 3, "steps": 2, "cfg": 1.0, "preview": {"hidden": True}}
        assert inputs_of(node(1, "Sampler", widgets_values=saved)) == {
            "seed": 3,
            "steps": 2,
            "cfg": 1.0,
        }

    def test_a_list_value_is_not_mistaken_for_a_link(self) -> None:
        curve = node(1, "Curve", [[0, 1], [1, 0]], 4)
        curve["inputs"] = [
            {"name": "curve", "type": "CURVE", "link": None, "widget": {"name": "curve"}}
        ]
        assert inputs_of(curve) == {"curve": {"__value__": [[0, 1], [1, 0]]}, "steps": 4}

    def test_display_widgets_of_the_editor_are_ignored(self) -> None:
        assert inputs_of(node(1, "PreviewAny", "shown text", None, False)) == {}

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ([7, 4, 1.5], r"4 where the value of control_after_generate for seed belongs"),
            (["seven", "fixed"], r"'seven' for seed, which takes INT"),
            ([7, "fixed", True], r"True for steps, which takes INT"),
            ([7, "fixed", 4, "1.5"], r"'1.5' for cfg, which takes FLOAT"),
            ([7, "fixed", 4, 1.5, "", "extra"], r"1 widget values too many: \['extra'\]"),
        ],
    )
    def test_values_out_of_step_are_refused(self, values: list[Any], reason: str) -> None:
        with pytest.raises(GraphError, match=rf"Node 1 \(Sampler\) has {reason}"):
            convert(node(1, "Sampler", *values))

    def test_unknown_option_of_a_dynamic_combo_is_refused(self) -> None:
        with pytest.raises(GraphError, match="'av1' for codec, known are auto, h264"):
            convert(node(1, "SaveVideo", "p", "av1", "end"))


class TestLinks:
    load = node(1, "Load", "b.safetensors", outputs=["MODEL"])
    sampler = node(
        2, "Sampler", 7, "fixed", 4, 1.0, "", inputs=[("model", "MODEL", 9)], outputs=["IMAGE"]
    )

    @pytest.mark.parametrize(
        "link",
        [
            [9, 1, 0, 2, 0, "MODEL"],
            {"id": 9, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0},
        ],
        ids=["array", "object"],
    )
    def test_links_of_both_file_versions(self, link: Any) -> None:
        assert convert(self.load, self.sampler, links=[link]) == {
            "1": {
                "class_type": "Load",
                "inputs": {"name": "b.safetensors"},
                "_meta": {"title": "Load"},
            },
            "2": {
                "class_type": "Sampler",
                "inputs": {"model": ["1", 0], "seed": 7, "steps": 4, "cfg": 1.0, "note": ""},
                "_meta": {"title": "Sample"},
            },
        }

    def test_a_link_replaces_the_value_of_a_widget(self) -> None:
        steps = node(1, "Flags", True, outputs=["INT"])
        sampler = node(2, "Sampler", 7, "fixed", 4, 1.0, inputs=[("steps", "INT", 9)])
        prompt = convert(steps, sampler, links=[[9, 1, 0, 2, 0, "INT"]])
        assert prompt["2"]["inputs"]["steps"] == ["1", 0]

    def test_reroutes_are_followed(self) -> None:
        first = node(3, "Reroute", inputs=[("", "*", 9)], outputs=["MODEL"])
        second = node(4, "Reroute", inputs=[("", "*", 10)], outputs=["MODEL"])
        sampler = {**self.sampler, "inputs": [{"name": "model", "type": "MODEL", "link": 11}]}
        links = [[9, 1, 0, 3, 0, "*"], [10, 3, 0, 4, 0, "*"], [11, 4, 0, 2, 0, "MODEL"]]
        prompt = convert(self.load, first, second, sampler, links=links)
        assert set(prompt) == {"1", "2"}
        assert prompt["2"]["inputs"]["model"] == ["1", 0]

    def test_a_circle_of_reroutes_is_refused(self) -> None:
        reroute = node(3, "Reroute", inputs=[("", "*", 9)], outputs=["MODEL"])
        with pytest.raises(GraphError, match="Node 3 feeds itself"):
            convert(self.sampler, reroute, links=[[9, 3, 0, 3, 0, "*"]])

    def test_primitive_node_gives_its_value(self) -> None:
        primitive = node(1, "PrimitiveNode", 33, "fixed", outputs=["INT"])
        sampler = node(2, "Sampler", 7, "fixed", 4, 1.0, inputs=[("seed", "INT", 9)])
        prompt = convert(primitive, sampler, links=[[9, 1, 0, 2, 0, "INT"]])
        assert prompt.keys() == {"2"}
        assert prompt["2"]["inputs"]["seed"] == 33

    def test_links_from_nowhere_are_dropped(self) -> None:
        assert "model" not in inputs_of(self.sampler)
        assert "model" not in inputs_of(self.sampler, links=[[9, 77, 0, 2, 0, "MODEL"]])


class TestModes:
    def test_muted_nodes_and_what_they_feed_are_left_out(self) -> None:
        muted = {**TestLinks.load, "mode": 2}
        prompt = convert(muted, TestLinks.sampler, links=[[9, 1, 0, 2, 0, "MODEL"]])
        assert prompt.keys() == {"2"}
        assert "model" not in prompt["2"]["inputs"]

    def test_bypassed_node_passes_on_the_input_of_the_same_type(self) -> None:
        patch = node(
            3,
            "Unknown Patch",
            mode=4,
            inputs=[("image", "IMAGE", None), ("model", "MODEL", 9)],
            outputs=["MODEL"],
        )
        sampler = {**TestLinks.sampler, "inputs": [{"name": "model", "type": "MODEL", "link": 10}]}
        links = [[9, 1, 0, 3, 1, "MODEL"], [10, 3, 0, 2, 0, "MODEL"]]
        prompt = convert(TestLinks.load, patch, sampler, links=links)
        assert prompt.keys() == {"1", "2"}
        assert prompt["2"]["inputs"]["model"] == ["1", 0]

    def test_bypassed_node_without_such_an_input_gives_nothing(self) -> None:
        source = node(3, "Unknown", mode=4, inputs=[("t", "TEXT", 9)], outputs=["MODEL"])
        sampler = {**TestLinks.sampler, "inputs": [{"name": "model", "type": "MODEL", "link": 10}]}
        prompt = convert(source, sampler, links=[[10, 3, 0, 2, 0, "MODEL"]])
        assert "model" not in prompt["2"]["inputs"]


class TestWholeFiles:
    def test_notes_are_dropped_and_titles_kept(self) -> None:
        prompt = convert(
            node(1, "Note", "read me"),
            node(2, "MarkdownNote", "# read me"),
            node(3, "Load", "a.safetensors", title="My model"),
        )
        assert prompt.keys() == {"3"}
        assert prompt["3"]["_meta"] == {"title": "My model"}

    def test_unknown_node_is_named(self) -> None:
        with pytest.raises(GraphError, match="Node 5 has the type Gone, which the server lacks"):
            convert(node(5, "Gone", outputs=["IMAGE"]))

    def test_decorations_without_sockets_are_dropped(self) -> None:
        assert convert(node(5, "Label (rgthree)"), node(3, "Load", "a.safetensors")).keys() == {"3"}

    def test_set_and_get_are_links_by_name(self) -> None:
        prompt = convert(
            node(1, "Load", "a.safetensors", outputs=["MODEL"]),
            node(2, "SetNode", "it", inputs=[("MODEL", "MODEL", 7)], outputs=["*"]),
            node(3, "GetNode", "it", outputs=["MODEL"]),
            node(4, "Sampler", 7, "fixed", 4, 1.0, "", inputs=[("model", "MODEL", 8)]),
            links=[[7, 1, 0, 2, 0, "MODEL"], [8, 3, 0, 4, 0, "MODEL"]],
        )
        assert prompt.keys() == {"1", "4"}
        assert prompt["4"]["inputs"]["model"] == ["1", 0]

    def test_a_name_that_no_node_sets_is_named(self) -> None:
        sampler = node(4, "Sampler", 7, "fixed", 4, 1.0, "", inputs=[("model", "MODEL", 8)])
        with pytest.raises(GraphError, match="Node 3 gets 'it', which no node sets"):
            convert(
                node(3, "GetNode", "it", outputs=["MODEL"]), sampler,
                links=[[8, 3, 0, 4, 0, "MODEL"]],
            )  # fmt: skip

    def test_an_empty_widget_value_is_the_default(self) -> None:
        inputs = inputs_of(node(1, "Sampler", 7, "fixed", None, 1.0, ""))
        assert inputs["steps"] == 20

    def test_subgraph_is_refused_by_name(self) -> None:
        parts = {"subgraphs": [{"id": "0b6c", "name": "My stage"}]}
        with pytest.raises(
            GraphError, match='Node 5 is the subgraph "My stage"; subgraphs are not'
        ):
            convert(node(5, "0b6c"), definitions=parts)

    def test_api_format_is_not_taken_for_a_workflow(self) -> None:
        with pytest.raises(GraphError, match="no list of nodes"):
            to_api({"1": {"class_type": "Load", "inputs": {}}}, OBJECT_INFO)

    def test_the_workflow_is_left_unchanged(self) -> None:
        sampler = node(1, "Sampler", 7, "fixed", 4, 1.0, "")
        before = repr(sampler)
        convert(sampler)
        assert repr(sampler) == before
