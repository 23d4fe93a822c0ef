"""The blueprints: served by ComfyUI, six widgets at most, and running as they come."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.integration.test_templates import NOTES
from tests.support.tiny_graphs import on_tiny_models
from tools.client import ComfyClient
from tools.graph import to_api
from tools.server import PACK_FOLDER

Graph = dict[str, dict[str, Any]]

FOLDER = Path(__file__).parents[2] / "subgraphs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
CONTINUE, COMPARE = "Continue a video", "Compare anchors"
CHUNKS, CLIP_FRAMES, CLIP_FPS = 2, 9, 8


def saved(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def subgraph(name: str) -> dict[str, Any]:
    (found,) = saved(name)["definitions"]["subgraphs"]
    return found


@pytest.fixture
def graph_of(object_info: dict[str, Any]) -> Callable[[str], Graph]:
    """Return a function that makes what the page queues of a blueprint, with its video saved."""

    def load(name: str) -> Graph:
        graph = to_api(saved(name), object_info)
        for key in [k for k, node in graph.items() if node["class_type"] == "CreateVideo"]:
            inputs = {"video": [key, 0], "filename_prefix": f"blueprint/{name}"}
            inputs |= {"format": "mp4", "codec": "auto"}
            graph["save"] = {"class_type": "SaveVideo", "inputs": inputs}
        for node in graph.values():
            if node["class_type"] == "AdaStateEncode":
                node["inputs"]["clip"] = ["load", 0]
                graph["load"] = {"class_type": "LoadVideo", "inputs": {"file": "sounding.mp4"}}
                break
        return on_tiny_models(graph)

    return load


def write_clip(path: Path) -> None:
    """Write a video with a tone."""
    rate = 16000
    seconds = np.arange(rate * CLIP_FRAMES // CLIP_FPS) / rate
    tone = (0.5 * np.sin(2 * math.pi * 440 * seconds)).astype(np.float32)[None]
    with av.open(str(path), "w") as container:
        video = container.add_stream("h264", rate=Fraction(CLIP_FPS))
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for index in range(CLIP_FRAMES):
            pixels = np.full((64, 64, 3), 20 * index, dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        sound.sample_rate, sound.pts = rate, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


@pytest.mark.parametrize("name", NAMES)
def test_runs_on_tiny_models(
    name: str, graph_of: Callable[[str], Graph], client: ComfyClient, base_dir: Path
) -> None:
    (base_dir / "input").mkdir(exist_ok=True)
    write_clip(base_dir / "input" / "sounding.mp4")
    (video,) = [f for f in client.run(graph_of(name)).files(base_dir) if f.suffix == ".mp4"]
    with av.open(str(video)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    # The clip of 9 frames is the first 3 latent frames, and so as long as a chunk.
    chunks = CHUNKS + 1 if name == CONTINUE else CHUNKS
    assert frames == 12 * chunks - 3


def test_a_continued_video_begins_with_its_sound(
    graph_of: Callable[[str], Graph], client: ComfyClient, base_dir: Path
) -> None:
    (base_dir / "input").mkdir(exist_ok=True)
    write_clip(base_dir / "input" / "sounding.mp4")
    (video,) = client.run(graph_of(CONTINUE)).files(base_dir)
    with av.open(str(video)) as container:
        assert container.streams.video[0].average_rate == CLIP_FPS
        (audio,) = container.streams.audio
        heard = np.concatenate([f.to_ndarray() for f in container.decode(audio)], axis=1)
        assert audio.rate == 16000
    assert np.abs(heard[:, 2000:14000]).mean() > 0.1
    assert heard.shape[1] / 16000 == pytest.approx(CLIP_FRAMES / CLIP_FPS, abs=0.2)


def test_comfyui_lists_and_serves_them(client: ComfyClient) -> None:
    listed = client.get("/global_subgraphs")
    ours = {
        entry["name"]: key
        for key, entry in listed.items()
        if entry["info"]["node_pack"] == f"custom_nodes.{PACK_FOLDER}"
    }
    assert sorted(ours) == NAMES
    for name, key in ours.items():
        assert json.loads(client.get(f"/global_subgraphs/{key}")["data"]) == saved(name)


@pytest.mark.parametrize("name", NAMES)
def test_is_one_node_with_six_widgets_at_most(name: str) -> None:
    (node,) = saved(name)["nodes"]
    inner = subgraph(name)
    assert node["type"] == inner["id"]
    assert node["title"] == inner["name"] == name
    widgets = [entry["name"] for entry in node["inputs"] if "widget" in entry]
    assert len(widgets) == len(node["widgets_values"]) <= 6
    assert {"seconds", "seed"} <= set(widgets)
    assert [entry["name"] for entry in node["inputs"]] == [e["name"] for e in inner["inputs"]]
    assert inner["description"].endswith(".")
    assert inner["category"] == "AdaState"


@pytest.mark.parametrize("name", NAMES)
def test_links_join_what_they_name(name: str) -> None:
    inner = subgraph(name)
    nodes = {node["id"]: node for node in inner["nodes"]}
    assert min(nodes) > 100, "ids of the graph that it is put into are lower"
    assert any(
        "Another model" in n["widgets_values"][0] for n in nodes.values() if n["type"] in NOTES
    )
    for link in inner["links"]:
        if link["origin_id"] == -10:
            source = inner["inputs"][link["origin_slot"]]
            assert link["id"] in source["linkIds"]
        else:
            source = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
            assert link["id"] in source["links"]
        if link["target_id"] == -20:
            assert link["id"] in inner["outputs"][link["target_slot"]]["linkIds"]
        else:
            sink = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert sink["link"] == link["id"]
            assert sink["type"] in (source["type"], "*", "IMAGE,VIDEO")
        assert source["type"] == link["type"]


def test_the_template_shows_the_blueprint() -> None:
    template = FOLDER.parent / "workflows" / "05 Compare anchors.json"
    inside = json.loads(template.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    assert inside == [subgraph(COMPARE)]
