"""The shipped workflows: found by ComfyUI, made of core nodes and ours, and running as saved.

Every one runs on tiny random models. Of those for the demo models, one runs as it ships (in
`test_demo`) and one with its own models and prompts, but shorter.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageChops

from tests.support import tiny_models
from tools.client import ComfyClient
from tools.server import PACK_FOLDER, ComfyServer

Graph = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
TIMELINE, RENDER = "AdaStateStreamTimeline", "AdaStateRender"
STREAMING = ("AdaStateStream", TIMELINE, RENDER)
DEMO, STEPS = "01 Stream the demo world", "07 Step by step"
LOOP = 6
"""Frames over which a short video loops."""
NOTES = ("Note", "MarkdownNote")
TINY = {"i2v_high_noise": tiny_models.WAN_I2V, "i2v_low_noise": tiny_models.WAN_22_I2V}


def saved(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def graphs_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a workflow and the subgraphs in it."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def nodes_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all nodes but those that stand for a subgraph."""
    graphs = graphs_of(workflow)
    subgraphs = {graph["id"] for graph in graphs[1:]}
    return [n for graph in graphs for n in graph["nodes"] if n["type"] not in subgraphs]


def of_type(graph: Graph, class_type: str) -> list[str]:
    return [key for key, node in graph.items() if node["class_type"] == class_type]


def _feeds(graph: Graph, source: str, target: str) -> bool:
    return graph[target]["inputs"]["state"][0] == source


def chunks_in(graph: Graph, video: str) -> int:
    """Count the chunks of the stream that a saved video shows, back to its beginning."""
    seen, found, chunks = set(), [video], 0
    while found:
        key = found.pop()
        if key in seen or key not in graph:
            continue
        seen.add(key)
        inputs = graph[key]["inputs"]
        if graph[key]["class_type"] in STREAMING:
            chunks += inputs["chunks"]
        if graph[key]["class_type"] == "AdaStateCompare":
            inputs = {"stream_1": inputs["stream_1"]}  # all rows play at the same time
        found += [value[0] for value in inputs.values() if isinstance(value, list)]
    return chunks


def on_tiny_models(graph: Graph) -> Graph:
    """Swap the loaders for tiny random models and make everything as small as it can be.

    What encodes its prompts inside needs a text encoder, so it keeps the demo models.
    """
    graph = json.loads(json.dumps(graph))
    reads = [node for node in graph.values() if node["class_type"] in (TIMELINE, RENDER)]
    swapped = not any("clip" in node["inputs"] for node in reads)
    replaced: dict[tuple[str, int], list[Any]] = {}
    for key, node in list(graph.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "AdaStateLoadDemo" and swapped:
            replaced[key, 0], replaced[key, 2] = ["tiny_model", 0], ["tiny_vae", 0]
            model = {"model_name": tiny_models.WAN_CAUSAL, "weight_dtype": "default", "shift": 0.0}
            graph["tiny_model"] = {"class_type": "AdaStateLoadModel", "inputs": model}
            vae = {"vae_name": tiny_models.WAN_VAE}
            graph["tiny_vae"] = {"class_type": "VAELoader", "inputs": vae}
            del graph[key]
        elif kind == "AdaStateLoadModel":
            tiny = [t for part, t in TINY.items() if part in inputs["model_name"]]
            inputs["model_name"] = tiny[0] if tiny else tiny_models.WAN_CAUSAL
        elif kind == "LoadImage":
            node["class_type"] = "EmptyImage"
            node["inputs"] = {"width": 64, "height": 64, "batch_size": 1, "color": 0x3366AA}
        elif kind == "WanImageToVideo":
            inputs.update(width=64, height=64, length=9)
        elif kind == "VAELoader":
            inputs["vae_name"] = tiny_models.WAN_VAE
        elif kind == "CLIPLoader":
            del graph[key]
        elif kind == "CLIPTextEncode" and swapped:
            node["class_type"] = "AdaStateTestConditioning"
            seed = zlib.crc32(inputs["text"].encode()) % 2**31
            node["inputs"] = {"seed": seed, "tokens": 8, "width": 4096}
        elif kind == "EmptyHunyuanLatentVideo":
            inputs.update(width=64, height=64)
        elif kind == "BasicScheduler":
            inputs["steps"] = 2
        elif kind in STREAMING:
            inputs.update(chunks=2, seconds=0.0)
        elif kind == "AdaStateEncode":
            inputs.update(width=64, height=64)
        elif kind == "AdaStateDecode" and inputs["loop"]:
            inputs["loop"] = LOOP
    for node in graph.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                node["inputs"][name] = replaced.get((value[0], value[1]), value)
    return graph


def frames_of(video: Path) -> int:
    with av.open(str(video)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return sum(1 for _ in container.decode(video=0))


def check_results(graph: Graph, client: ComfyClient, base_dir: Path) -> None:
    """Run a workflow twice: it must save its whole stream, and then has nothing left to do."""
    result = client.run(graph)
    assert (set(result.executed) | result.cached) & set(graph) == set(graph)
    videos = of_type(graph, "SaveVideo") + of_type(graph, RENDER)
    chunks = sum(chunks_in(graph, video) for video in videos)
    files = [file for file in result.files(base_dir) if file.suffix == ".mp4"]
    assert len(files) == len(videos)
    # T latent frames decode to 1 + 4 (T - 1) pictures, and a chunk has 3.
    looped = sum(graph[key]["inputs"]["loop"] for key in of_type(graph, "AdaStateDecode"))
    assert sum(map(frames_of, files)) == 4 * 3 * chunks - 3 * len(files) - looped
    for key in of_type(graph, "PreviewImage") + of_type(graph, "SaveImage"):
        pictures = result.files(base_dir, key)
        assert pictures
        assert all(picture.is_file() for picture in pictures)
    for key in of_type(graph, "PreviewAny"):
        assert json.loads(result.outputs[key]["text"][0])
    again = client.run(graph)
    if not of_type(graph, "AdaStateOpenStream"):
        assert again.executed == ()
        return
    # A named stream goes on with every run, and its video with it.
    (longer,) = [file for file in again.files(base_dir) if file.suffix == ".mp4"]
    assert frames_of(longer) == 4 * 3 * 2 * chunks - 3


@pytest.mark.floor
@pytest.mark.parametrize("name", NAMES)
def test_runs_on_tiny_models(
    name: str,
    load_workflow: Callable[[str], Graph],
    client: ComfyClient,
    base_dir: Path,
) -> None:
    check_results(on_tiny_models(load_workflow(f"{name}.json")), client, base_dir)


def test_runs_on_the_models_it_ships_with(
    load_workflow: Callable[[str], Graph], client: ComfyClient, base_dir: Path
) -> None:
    """As it is saved, but shorter and smaller: loaders, prompts, guidance and wires."""
    graph = load_workflow(f"{STEPS}.json")
    for node in graph.values():
        if node["class_type"] == "AdaStateStream":
            node["inputs"]["chunks"] = 1
        elif node["class_type"] == "BasicScheduler":
            node["inputs"]["steps"] = 2
        elif node["class_type"] == "EmptyHunyuanLatentVideo":
            node["inputs"].update(width=64, height=64)
    check_results(graph, client, base_dir)


def test_demo_saves_what_the_demo_command_collects(
    load_workflow: Callable[[str], Graph], client: ComfyClient, base_dir: Path
) -> None:
    graph = on_tiny_models(load_workflow(f"{DEMO}.json"))
    (stream,) = of_type(graph, "AdaStateStream")
    files = client.run(graph).files(base_dir)
    folder = base_dir / "output" / "adastate"
    assert {file.parent for file in files} == {folder}
    stems = [file.name.rsplit("_", 2)[0] for file in files]
    assert stems.count("demo") == 1
    assert stems.count("demo_state") == graph[stream]["inputs"]["chunks"]


def test_steps_record_the_reset_between_them(
    load_workflow: Callable[[str], Graph], client: ComfyClient
) -> None:
    graph = on_tiny_models(load_workflow(f"{STEPS}.json"))
    (record,) = of_type(graph, "PreviewAny")
    report = json.loads(client.run(graph).outputs[record]["text"][0])
    happened = [event["event"] for event in report["events"]]
    assert happened == ["chunk"] * 4 + ["reset"] + ["chunk"] * 2
    prompts = [event["prompt"] for event in report["events"] if event["event"] == "chunk"]
    assert len(set(prompts[:4])) == len(set(prompts[4:])) == 1
    assert prompts[0] != prompts[-1]


def test_another_seed_of_the_last_step_replays_nothing(
    load_workflow: Callable[[str], Graph], client: ComfyClient
) -> None:
    graph = on_tiny_models(load_workflow(f"{STEPS}.json"))
    counter = {"model": ["tiny_model", 0], "name": "steps"}
    graph["counter"] = {"class_type": "AdaStateTestCountForwards", "inputs": counter}
    (apply,) = of_type(graph, "AdaStateApply")
    graph[apply]["inputs"]["model"] = ["counter", 0]
    client.run(graph)
    (reset,) = of_type(graph, "AdaStateReset")
    (last,) = [s for s in of_type(graph, "AdaStateStream") if _feeds(graph, reset, s)]
    graph[last]["inputs"]["seed"] += 1
    client.post("/adastate_test/reset")
    client.run(graph)
    steps, chunks = 2, graph[last]["inputs"]["chunks"]
    # Of its own chunks, under either conditioning; the last one waits for whoever continues.
    commits = 2 * (chunks - 1)
    assert client.get("/adastate_test/forwards") == {"steps": steps * chunks + commits}


@pytest.mark.parametrize("anchor", ["frozen", "none"])
def test_the_first_one_runs_under_every_anchor_that_its_note_proposes(
    load_workflow: Callable[[str], Graph], client: ComfyClient, base_dir: Path, anchor: str
) -> None:
    """Without hidden states, its picture of them shows the newest frame of every chunk."""
    graph = on_tiny_models(load_workflow(f"{DEMO}.json"))
    (apply,), (save,) = of_type(graph, "AdaStateApply"), of_type(graph, "SaveImage")
    graph[apply]["inputs"]["anchor"] = anchor
    assert len(client.run(graph).outputs[save]["images"]) == 2


@pytest.mark.floor
def test_comfyui_lists_and_serves_them(client: ComfyClient, server: ComfyServer) -> None:
    assert sorted(client.get("/api/workflow_templates")[PACK_FOLDER]) == NAMES
    for name in NAMES:
        for ending, kind in ((".json", "application/json"), (".jpg", "image/jpeg")):
            path = f"/api/workflow_templates/{PACK_FOLDER}/{urllib.parse.quote(name + ending)}"
            with urllib.request.urlopen(server.url + path, timeout=30) as reply:
                assert reply.headers.get_content_type() == kind


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail_has_the_same_name_moves_and_is_small(name: str) -> None:
    """The page asks for `.jpg`; a browser goes by the content, which is an animation."""
    path = FOLDER / f"{name}.jpg"
    assert path.is_file(), f"Add a picture of the result, 512 pixels wide: {path.name}"
    with Image.open(path) as picture:
        assert picture.format == "WEBP"
        assert picture.info["loop"] == 0
        assert max(picture.size) == 512
        first = picture.convert("RGB")
        picture.seek(picture.n_frames // 2)
        assert ImageChops.difference(first, picture.convert("RGB")).getbbox()
    assert path.stat().st_size < 250_000


@pytest.mark.floor
@pytest.mark.parametrize("name", NAMES)
def test_is_made_of_core_nodes_and_ours(name: str, object_info: dict[str, Any]) -> None:
    nodes = nodes_of(saved(name))
    assert any(node["type"] == "MarkdownNote" for node in nodes)
    for node in nodes:
        if node["type"] in NOTES:
            continue
        module = object_info[node["type"]]["python_module"]
        ours = module == f"custom_nodes.{PACK_FOLDER}"
        assert ours or module.split(".")[0] in ("nodes", "comfy_extras"), module
        assert node["properties"]["cnr_id"] == ("adastate" if ours else "comfy-core")


@pytest.mark.parametrize("name", NAMES)
def test_links_fit_the_node_definitions(name: str, object_info: dict[str, Any]) -> None:
    workflow = saved(name)
    for node in nodes_of(workflow):
        if node["type"] not in NOTES:
            info = object_info[node["type"]]
            assert [o["name"] for o in node["outputs"]] == info["output_name"], node["type"]
            assert [o["type"] for o in node["outputs"]] == info["output"], node["type"]
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, origin, slot, target, socket, kind in workflow["links"]:
        source, sink = nodes[origin]["outputs"][slot], nodes[target]["inputs"][socket]
        assert number in source["links"]
        assert sink["link"] == number
        assert source["type"] == kind
        assert sink["type"] in (kind, "*")


@pytest.mark.parametrize("name", NAMES)
def test_nodes_stand_apart(name: str) -> None:
    """Titles included: LiteGraph draws them above a node's position."""
    title = 30
    for graph in graphs_of(saved(name)):
        boxes = [
            (n["type"], n["pos"][0], n["pos"][1] - title, *shown_size(n)) for n in graph["nodes"]
        ]
        for i, (one, x, y, width, height) in enumerate(boxes):
            for other, left, top, across, down in boxes[i + 1 :]:
                apart = x + width <= left or left + across <= x
                apart = apart or y + height + title <= top or top + down + title <= y
                assert apart, f"{one} covers {other}"


def shown_size(node: dict[str, Any]) -> tuple[float, float]:
    width, height = node["size"]
    return (width, 0) if node["flags"].get("collapsed") else (width, height)


@pytest.mark.parametrize("name", NAMES)
def test_fits_a_laptop_at_a_size_that_can_be_read(name: str) -> None:
    """A template opens as a whole; below a scale of 0.57 the page leaves out all text."""
    nodes = saved(name)["nodes"]
    (note, *_) = [node for node in nodes if node["type"] == "MarkdownNote"]
    assert note["pos"] == [0, 0]
    assert note["widgets_values"][0].startswith("# ")
    right = max(node["pos"][0] + node["size"][0] for node in nodes)
    bottom = max(node["pos"][1] + shown_size(node)[1] for node in nodes)
    # What the page gave of 1440 x 820 to a graph, with a margin and the groups around it.
    assert right + 10 <= 1075 / 0.575
    assert bottom + 10 + 86 <= 641 / 0.575


@pytest.mark.parametrize("name", NAMES)
def test_loaders_say_where_their_files_come_from(name: str) -> None:
    files = ("model_name", "clip_name", "vae_name")
    for node in nodes_of(saved(name)):
        named = [s for s in node["inputs"] if s["name"] in files]
        if named:
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0]
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith(model["name"])
            assert model["directory"] in ("diffusion_models", "text_encoders", "vae")


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_api_format_are_what_the_page_queues(
    name: str, load_workflow: Callable[[str], Graph]
) -> None:
    """`python -m tools.export_api` makes them again."""
    example = ROOT / "workflows" / "api" / f"{name}.json"
    assert json.loads(example.read_text(encoding="utf-8")) == load_workflow(f"{name}.json")
