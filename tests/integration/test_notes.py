"""What the notes of the shipped workflows tell an artist to try: all of it runs to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_templates import STEPS, frames_of
from tests.support.tiny_graphs import (
    RENDER,
    STREAMING,
    TIMELINE,
    Graph,
    of_type,
    on_tiny_models,
)
from tools.client import ComfyClient

Change = Callable[[Graph], None]
RED, BLUE = "red circle moving left, camera still, city", "blue star moving up, camera still, hills"


def settings(kind: str, **values: object) -> Change:
    """Return the change that sets inputs of all nodes of a type."""

    def change(graph: Graph) -> None:
        keys = of_type(graph, kind)
        assert keys, f"there is no {kind} to change"
        for key in keys:
            graph[key]["inputs"].update(values)

    return change


def continue_with_another_prompt(graph: Graph) -> None:
    """Connect the state to a second Render Stream to Video with another prompt."""
    (first,) = of_type(graph, RENDER)
    encode = graph[first]["inputs"]["positive"][0]
    other = {**graph[encode]["inputs"], "seed": graph[encode]["inputs"]["seed"] + 1}
    graph["prompt"] = {**graph[encode], "inputs": other}
    inputs = {**graph[first]["inputs"], "state": [first, 0], "positive": ["prompt", 0]}
    graph["second"] = {"class_type": RENDER, "inputs": inputs}


def bypass_the_reset(graph: Graph) -> None:
    """Wire what goes into Reset State to where it went."""
    (reset,) = of_type(graph, "AdaStateReset")
    for node in graph.values():
        if node["inputs"].get("state") == [reset, 0]:
            node["inputs"]["state"] = graph[reset]["inputs"]["state"]
    del graph[reset]


def change_the_last_seed(graph: Graph) -> None:
    graph[of_type(graph, "AdaStateStream")[-1]]["inputs"]["seed"] += 1


def blend_the_branches(graph: Graph) -> None:
    """Connect both branches to Blend States, a fourth Stream Chunks behind it, and save it."""
    (_, one, other) = of_type(graph, "AdaStateStream")
    inputs = {"a": [one, 0], "b": [other, 0], "factor": 0.5}
    graph["blend"] = {"class_type": "AdaStateBlend", "inputs": inputs}
    inputs = {**graph[one]["inputs"], "state": ["blend", 0]}
    graph["fourth"] = {"class_type": "AdaStateStream", "inputs": inputs}
    inputs = {"state": ["fourth", 0], "filename_prefix": "adastate/notes"}
    graph["save"] = {"class_type": "AdaStateSave", "inputs": inputs}


def begin_with_a_picture(graph: Graph) -> None:
    """Put a picture through VAE Encode into start_latent of New Stream."""
    ((render,), (new,)) = (of_type(graph, kind) for kind in (RENDER, "AdaStateNewStream"))
    picture = {"width": 64, "height": 64, "batch_size": 1, "color": 0x3366AA}
    graph["picture"] = {"class_type": "EmptyImage", "inputs": picture}
    encode = {"pixels": ["picture", 0], "vae": graph[render]["inputs"]["vae"]}
    graph["encode"] = {"class_type": "VAEEncode", "inputs": encode}
    graph[new]["inputs"]["start_latent"] = ["encode", 0]


def like_weights_that_are_not_distilled(graph: Graph) -> None:
    """Take LTXVScheduler and a cfg of 3."""
    ((render,), (sigmas,)) = (of_type(graph, kind) for kind in (RENDER, "ManualSigmas"))
    steps = {"steps": 3, "max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1}
    graph[sigmas] = {"class_type": "LTXVScheduler", "inputs": steps}
    graph[render]["inputs"]["cfg"] = 3.0


TRIES = {
    "a longer stream": ("01 Stream the demo world", settings("AdaStateStream", chunks=6)),
    "seconds, in a smaller file": ("02 Render a long video", settings(RENDER, seconds=2, crf=28)),
    "a second render": ("02 Render a long video", continue_with_another_prompt),
    "every transition": (
        "03 Stream a timeline",
        settings(
            TIMELINE,
            chunks=9,
            timeline=f"0: {RED}\n2: {BLUE}\n3.1s recache: {RED}\n"
            f"5 flush 1: {BLUE}\n6 blend 3: {RED}",
        ),
    ),
    "a story with more lines": (
        "04 Render a story",
        settings(RENDER, seconds=5, timeline=f"0s: {RED}\n1s: {BLUE}\n2s blend 3: {RED}"),
    ),
    "a longer comparison": ("05 Compare anchors", settings("AdaStateStream", seconds=1.5)),
    "a slower loop": ("06 Loop a video", settings("AdaStateDecode", loop=24)),
    "a quicker loop": ("06 Loop a video", settings("AdaStateDecode", loop=4)),
    "another last seed": (STEPS, change_the_last_seed),
    "a new scene": (STEPS, settings("AdaStateReset", scope="all")),
    "no reset": (STEPS, bypass_the_reset),
    "a blend of the branches": ("08 Branch a scene", blend_the_branches),
    "more seconds with sound": ("12 Stream MiniMax H3 with sound", settings(RENDER, seconds=3)),
    "a picture with sound": ("12 Stream MiniMax H3 with sound", begin_with_a_picture),
    "a second render with sound": ("12 Stream MiniMax H3 with sound", continue_with_another_prompt),
    "longer chunks with sound": (
        "12 Stream MiniMax H3 with sound",
        settings("AdaStateApply", chunk_frames=15, window_frames=15),
    ),
    "the memory of RAVEN": (
        "12 Stream MiniMax H3 with sound",
        settings("AdaStateApply", preset="raven"),
    ),
    "a longer window with sound": (
        "13 Stream LTX-2 with sound",
        settings("AdaStateApply", window_frames=9),
    ),
    "weights that are not distilled": (
        "13 Stream LTX-2 with sound",
        like_weights_that_are_not_distilled,
    ),
    "the memory of OmniForcing": (
        "13 Stream LTX-2 with sound",
        settings("AdaStateApply", preset="omniforcing"),
    ),
    "another stream": (
        "09 Continue a named stream",
        settings("AdaStateOpenStream", name="of the notes"),
    ),
}


@pytest.mark.parametrize("attempt", TRIES)
def test_what_a_note_proposes_runs(
    attempt: str,
    load_workflow: Callable[[str], Graph],
    client: ComfyClient,
    base_dir: Path,
) -> None:
    name, change = TRIES[attempt]
    graph = on_tiny_models(load_workflow(f"{name}.json"))
    change(graph)
    result = client.run(graph)
    streaming = {key for key, node in graph.items() if node["class_type"] in STREAMING}
    assert streaming <= set(result.executed) | result.cached
    assert result.executed
    for file in result.files(base_dir):
        if file.suffix == ".mp4":
            assert frames_of(file) > 1
