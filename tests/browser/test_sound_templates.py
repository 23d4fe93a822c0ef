"""The templates with sound: as they open, and as they run on tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_templates_run import OVERLAPS, SHOWN
from tests.support.editor import Editor
from tests.support.shipped import read
from tests.support.tiny_graphs import TEXTS
from tests.support.tiny_models import LTX23_WHOLE, MINIMAX_H3
from tools.server import ComfyServer

pytestmark = pytest.mark.browser

H3, LTX2 = "12 Stream MiniMax H3 with sound", "13 Stream LTX-2 with sound"
CHUNKS, STAND_IN = 3, "stands in"
PICTURES = {H3: 17 * CHUNKS, LTX2: 24 * CHUNKS - 7}
_OPEN = """async ([text, name]) => {
    await app.loadGraphData(JSON.parse(text), true, true, name);
}"""
_LENGTH = """() => {
    const [video] = document.querySelectorAll("[data-testid=adastate-stage] video");
    return video ? video.duration : 0;
}"""


@pytest.fixture(scope="module")
def server(start_server: Callable[..., ComfyServer], page_flags: tuple[str, ...]) -> ComfyServer:
    """Return a server with tiny models."""
    return start_server(*page_flags, models=True)


def on_tiny_models(name: str) -> dict[str, Any]:
    """Return a template with tiny models in place of those that it ships with."""
    workflow = read(name)
    kinds = {node["type"] for node in workflow["nodes"]}
    (text,) = [TEXTS[kind] for kind in TEXTS if kind in kinds]
    cut = set()
    for node in workflow["nodes"]:
        kind, values = node["type"], node.get("widgets_values")
        node["properties"].pop("models", None)
        if kind == "UNETLoader":
            values[0] = MINIMAX_H3
        elif kind in ("CheckpointLoaderSimple", "LTXVAudioVAELoader"):
            values[0] = LTX23_WHOLE
        elif kind == "VAELoader":
            vae = "minimax_h3_sound" if "audio" in values[0] else "minimax_h3_video"
            stand_in(node, "AdaStateTestVAE", [vae])
        elif kind == "CLIPTextEncode":
            cut.add(node["inputs"][0]["link"])
            words = [8, text["width"], text.get("flag", "")]
            stand_in(node, "AdaStateTestConditioning", [node["id"], "fixed", *words])
        elif kind in ("EmptyLTXVLatentVideo", "EmptyMiniMaxH3LatentAV"):
            values[:2] = [64, 64]
        elif kind == "ManualSigmas":
            values[0] = "1.0, 0.7, 0.0"
        elif kind == "BasicScheduler":
            values[1] = 2
        elif kind == "AdaStateRender":
            values[3] = CHUNKS
    workflow["links"] = [link for link in workflow["links"] if link[0] not in cut]
    for node in workflow["nodes"]:
        for output in node["outputs"]:
            output["links"] = [link for link in output["links"] or [] if link not in cut]
    return workflow


def stand_in(node: dict[str, Any], kind: str, values: list[Any]) -> None:
    """Put a node that only tests have in the place of another."""
    node.update(type=kind, title=STAND_IN, inputs=[], widgets_values=values)
    node["properties"]["Node name for S&R"] = kind


@pytest.mark.parametrize("name", [H3, LTX2])
def test_nodes_stand_apart(editor: Editor, name: str) -> None:
    workflow = read(name)
    for node in workflow["nodes"]:
        node["properties"].pop("models", None)  # the page would offer to fetch them
    editor.page.evaluate(_OPEN, [json.dumps(workflow), name])
    editor.page.wait_for_timeout(700)
    editor.shoot(f"{name} as it opens")
    assert editor.page.evaluate(OVERLAPS) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [H3, LTX2])
def test_runs_with_sound(editor: Editor, name: str) -> None:
    page = editor.page
    page.evaluate(_OPEN, [json.dumps(on_tiny_models(name)), name])
    editor.start()
    editor.look_at("AdaStateRender")
    page.wait_for_selector("[data-testid=adastate-stage] :is(img, canvas, video)", timeout=120_000)
    editor.shoot(f"{name} while it runs", fit=False)
    told = editor.wait()
    assert told["end"] == "execution_success", told
    page.wait_for_function(SHOWN, arg=1)
    assert page.get_by_test_id("adastate-tile").count() == CHUNKS
    editor.look_at("AdaStateRender")
    editor.shoot(f"{name}, its panel", fit=False)
    fps = 24 if name == H3 else 25
    assert page.evaluate(_LENGTH) == pytest.approx(PICTURES[name] / fps, abs=1.5 / fps)
    editor.shoot(name)
    apart = [pair for pair in page.evaluate(OVERLAPS) if STAND_IN not in pair]
    assert apart == []
