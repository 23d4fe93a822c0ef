"""Image-to-video weights and pairs of models, through a real queue with the stock nodes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.test_streams import base_graph, node
from tests.support import tiny_models
from tools.client import ComfyClient
from tools.events import PromptError


def image_graph(color: int, *, start: bool = False) -> dict[str, Any]:
    """Return a graph that streams from a picture and saves the stream."""
    graph = base_graph(tiny_models.WAN_22_I2V)
    graph |= {
        "vae": node("VAELoader", vae_name=tiny_models.WAN_VAE),
        "picture": node("EmptyImage", width=64, height=64, batch_size=1, color=color),
        "prompts": node(
            "WanImageToVideo",
            positive=["text", 0],
            negative=["text", 0],
            vae=["vae", 0],
            width=64,
            height=64,
            length=9,
            batch_size=1,
            start_image=["picture", 0],
        ),
        "stream": stream(positive=["prompts", 0], chunks=2),
        "save": node("AdaStateSave", state=["stream", 0], filename_prefix="picture"),
        "digest": node("AdaStateTestDigest", value=["stream", 1]),
    }
    if start:
        graph["encoded"] = node("VAEEncode", pixels=["picture", 0], vae=["vae", 0])
        graph["new"]["inputs"]["start_latent"] = ["encoded", 0]
    return graph


def stream(**changes: Any) -> dict[str, Any]:
    inputs = {
        "model": ["apply", 0],
        "state": ["new", 0],
        "positive": ["text", 0],
        "cfg": 1.0,
        "sampler": ["sampler", 0],
        "sigmas": ["sigmas", 0],
        "seed": 3,
        "chunks": 1,
    }
    return node("AdaStateStream", **{**inputs, **changes})


@pytest.mark.floor
def test_a_picture_is_streamed_saved_and_continued(client: ComfyClient) -> None:
    red = client.run(image_graph(0xFF0000))
    assert red.outputs["digest"]["shape"] == [1, 16, 6, 8, 8]
    blue = client.run(image_graph(0x0000FF))
    assert blue.outputs["digest"] != red.outputs["digest"]
    begun = client.run(image_graph(0xFF0000, start=True))
    assert begun.outputs["digest"] != red.outputs["digest"]

    on = image_graph(0xFF0000)
    on["on"] = stream(state=["stream", 0], positive=["prompts", 0])
    on["digest"] = node("AdaStateTestDigest", value=["on", 1])
    expected = client.run(on).outputs["digest"]
    client.free()
    later = image_graph(0xFF0000)
    for name in ("stream", "save", "new"):
        del later[name]
    later["new"] = node("AdaStateLoad", file=red.outputs["save"]["text"][0])
    later["on"] = stream(state=["new", 0], positive=["prompts", 0])
    later["digest"] = node("AdaStateTestDigest", value=["on", 1])
    assert client.run(later).outputs["digest"] == expected


def test_a_model_for_pictures_without_one_is_refused(client: ComfyClient) -> None:
    graph = base_graph(tiny_models.WAN_22_I2V)
    graph["stream"] = stream()
    graph["digest"] = node("AdaStateTestDigest", value=["stream", 1])
    with pytest.raises(PromptError, match=r"Image-to-video model: there is no image in"):
        client.run(graph)


@pytest.mark.floor
def test_a_pair_of_models(client: ComfyClient) -> None:
    client.post("/adastate_test/reset")
    graph = base_graph()
    low = base_graph(tiny_models.WAN_LOW)
    graph |= {f"low {name}": low[name] for name in ("load", "apply", "count")}
    graph["low apply"]["inputs"]["model"] = ["low load", 0]
    graph["low count"]["inputs"] |= {"model": ["low apply", 0], "name": "low"}
    pair: dict[str, Any] = {"model_low_noise": ["low count", 0], "switch_sigma": 0.95}
    pair["model"] = ["count", 0]
    graph["stream"] = stream(chunks=3, **pair)
    graph["digest"] = node("AdaStateTestDigest", value=["stream", 1])
    made = client.run(graph)
    counted = client.get("/adastate_test/forwards")
    # One step of each chunk, and every commit, for either; the layout check is not counted.
    assert counted == {"stream": 3 + 2, "low": 3 + 2}
    alone = base_graph()
    alone["stream"] = stream(chunks=3)
    alone["digest"] = node("AdaStateTestDigest", value=["stream", 1])
    assert client.run(alone).outputs["digest"] != made.outputs["digest"]
