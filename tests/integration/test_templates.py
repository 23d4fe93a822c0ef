"""The shipped workflows: found by ComfyUI, made of core nodes and ours, and running as saved.

Every one runs on tiny random models. Of those for the demo models, one runs as it ships (in
`test_demo`) and one with its own models and prompts, but shorter.
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageChops

from tests.integration.conftest import skip_if_newer
from tests.support.sounding import played
from tests.support.tiny_graphs import RENDER, STREAMING, TRAINING, Graph, of_type, on_tiny_models
from tools.client import ComfyClient
from tools.server import PACK_FOLDER, ComfyServer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
DEMO, STEPS = "01 Stream the demo world", "07 Step by step"
H3, LTX2 = "12 Stream MiniMax H3 with sound", "13 Stream LTX-2 with sound"
LOOP_NODES = "15 Loop over prompts"
NOTES = ("Note", "MarkdownNote")
MATCHED = "COMFY_MATCHTYPE_V3"
"""Type of a socket that becomes what is wired to it."""
FILES = ("model_name", "unet_name", "ckpt_name", "clip_name", "text_encoder", "vae_name")
FOLDERS = ("diffusion_models", "checkpoints", "text_encoders", "vae")


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
        if graph[key]["class_type"] == TRAINING:
            continue  # a clip that is learned from is not shown
        if graph[key]["class_type"] in STREAMING:
            chunks += inputs["chunks"]
        if graph[key]["class_type"] == "AdaStateCompare":
            inputs = {"stream_1": inputs["stream_1"]}  # all rows play at the same time
        found += [value[0] for value in inputs.values() if isinstance(value, list)]
    return chunks


def frames_of(video: Path) -> int:
    with av.open(str(video)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return sum(1 for _ in container.decode(video=0))


def pictures_in(graph: Graph, chunks: int, videos: int) -> int:
    """Count the pictures of videos whose chunks are so many in all."""
    if of_type(graph, "EmptyMiniMaxH3LatentAV"):
        return 17 * chunks
    # T latent frames decode to 1 + 4 (T - 1) pictures, and a chunk has 3; of LTX-2, 8 take the
    # place of the 4.
    stride = 8 if of_type(graph, "EmptyLTXVLatentVideo") else 4
    return stride * 3 * chunks - (stride - 1) * videos


def check_results(graph: Graph, client: ComfyClient, base_dir: Path) -> None:
    """Run a workflow twice: it must save its whole stream, and then has nothing left to do."""
    result = client.run(graph)
    assert (set(result.executed) | result.cached) & set(graph) == set(graph)
    videos = of_type(graph, "SaveVideo") + of_type(graph, RENDER)
    chunks = sum(chunks_in(graph, video) for video in videos)
    files = [file for file in result.files(base_dir) if file.suffix == ".mp4"]
    assert len(files) == len(videos)
    looped = sum(graph[key]["inputs"]["loop"] for key in of_type(graph, "AdaStateDecode"))
    assert sum(map(frames_of, files)) == pictures_in(graph, chunks, len(files)) - looped
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


# ComfyUI's loop makes nodes while it runs: `test_loop_nodes` counts what they do.
@pytest.mark.floor
@pytest.mark.parametrize("name", sorted(set(NAMES) - {LOOP_NODES}))
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
@pytest.mark.parametrize("name", [H3, LTX2])
def test_sound_goes_with_the_pictures(
    name: str, load_workflow: Callable[[str], Graph], client: ComfyClient, base_dir: Path
) -> None:
    """Both tracks are as long as each other, to less than one picture, and it does sound."""
    graph = on_tiny_models(load_workflow(f"{name}.json"))
    (render,) = of_type(graph, RENDER)
    graph[render]["inputs"]["chunks"] = 4
    (file,) = [f for f in client.run(graph).files(base_dir) if f.suffix == ".mp4"]
    fps, data = graph[render]["inputs"]["fps"], file.read_bytes()
    pictures, sound = frames_of(file), played(data)
    assert pictures == pictures_in(graph, 4, 1)
    with av.open(str(file)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert video.average_rate == fps
        assert audio.codec_context.name == "aac"
        assert sound.shape[0] == 2
        assert abs(sound.shape[1] / audio.rate - pictures / fps) < 1 / fps
        assert abs(float(video.duration * video.time_base) - pictures / fps) < 1 / fps
    # Of every half second, so that no chunk is silent.
    parts = np.array_split(sound, 2 * pictures // fps, axis=1)
    assert min(np.abs(part).mean() for part in parts) > 0.001


@pytest.mark.floor
@pytest.mark.parametrize("name", NAMES)
def test_is_made_of_core_nodes_and_ours(name: str, object_info: dict[str, Any]) -> None:
    skip_if_newer(saved(name), object_info)
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
    skip_if_newer(workflow, object_info)
    for node in nodes_of(workflow):
        if node["type"] not in NOTES:
            info = object_info[node["type"]]
            assert [o["name"] for o in node["outputs"]] == info["output_name"], node["type"]
            kinds = zip(node["outputs"], info["output"], strict=True)
            assert all(o["type"] in (kind, MATCHED) for o, kind in kinds), node["type"]
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, origin, slot, target, socket, kind in workflow["links"]:
        source, sink = nodes[origin]["outputs"][slot], nodes[target]["inputs"][socket]
        assert number in source["links"]
        assert sink["link"] == number
        assert source["type"] in (kind, MATCHED)
        assert sink["type"] in ("*", MATCHED) or kind in sink["type"].split(",")


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
    for node in nodes_of(saved(name)):
        widgets = [each["name"] for each in node["inputs"] if "widget" in each]
        values = dict(zip(widgets, node["widgets_values"], strict=False))
        named = [value for widget, value in values.items() if widget in FILES]
        models = node["properties"].get("models", [])
        assert [model["name"] for model in models] == named
        for model in models:
            assert model["url"].startswith("https://huggingface.co/")
            assert model["url"].endswith(model["name"])
            assert model["directory"] in FOLDERS


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_api_format_are_what_the_page_queues(
    name: str, load_workflow: Callable[[str], Graph]
) -> None:
    """`python -m tools.export_api` makes them again."""
    example = ROOT / "workflows" / "api" / f"{name}.json"
    queued = load_workflow(f"{name}.json")
    for node in queued.values():  # ComfyUI 0.33 has the codec of Save Video below its format
        inputs = node["inputs"]
        inputs |= {"codec": inputs.pop("format.codec")} if "format.codec" in inputs else {}
    assert json.loads(example.read_text(encoding="utf-8")) == queued
