"""The server starts with the pack, and the test harness itself works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_models
from tools.client import ComfyClient
from tools.events import PromptError
from tools.server import ComfyServer


def sampling_graph(seed: int) -> dict[str, Any]:
    """Return stock sampling of a tiny Wan model with random text, decoded and saved."""
    return {
        "model": node("UNETLoader", unet_name=tiny_models.WAN, weight_dtype="default"),
        "count": node("AdaStateTestCountForwards", model=["model", 0], name="stock"),
        "text": node("AdaStateTestConditioning", seed=1, tokens=8, width=4096),
        "latent": node("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1),
        "sample": node(
            "KSampler",
            **{"model": ["count", 0], "positive": ["text", 0], "negative": ["text", 0]},
            **{"latent_image": ["latent", 0], "seed": seed, "steps": 2, "cfg": 1.0},
            **{"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0},
        ),
        "vae": node("VAELoader", vae_name=tiny_models.WAN_VAE),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
        "digest": node("AdaStateTestDigest", value=["sample", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="smoke/frame"),
    }


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


@pytest.mark.floor
def test_stock_sampling_runs_and_is_cached(client: ComfyClient, base_dir: Path) -> None:
    client.free()  # other tests share nodes with this graph
    client.post("/adastate_test/reset")
    first = client.run(sampling_graph(seed=5))
    assert set(first.executed) == set(sampling_graph(5))
    assert first.outputs["digest"]["shape"] == [1, 16, 3, 8, 8]
    assert client.get("/adastate_test/forwards") == {"stock": 2}
    assert first.previews
    frames = first.files(base_dir, "save")
    assert len(frames) == 9
    assert all(frame.is_file() for frame in frames)

    again = client.run(sampling_graph(seed=5))
    assert again.executed == ()
    assert again.cached == set(sampling_graph(5))

    other = client.run(sampling_graph(seed=6))
    assert not other.ran("text")
    assert other.ran("sample")
    assert other.outputs["digest"] != first.outputs["digest"]


def test_every_cache_mode_starts_with_the_pack(
    server_with: Callable[..., ComfyServer], connect: Callable[[ComfyServer], ComfyClient]
) -> None:
    for flags in (("--cache-classic",), ("--cache-lru", "50"), ("--cache-none",)):
        stats = connect(server_with(*flags)).get("/system_stats")
        assert list(flags) == [a for a in stats["system"]["argv"] if a in flags]


def test_refused_prompt_names_the_node_and_input(client: ComfyClient) -> None:
    graph = sampling_graph(seed=5)
    graph["text"]["inputs"]["tokens"] = "many"
    with pytest.raises(
        PromptError, match=r"node text \(AdaStateTestConditioning\).*tokens"
    ) as error:
        client.queue(graph)
    assert "text" in error.value.node_errors


def test_failing_node_is_reported_with_its_message(client: ComfyClient) -> None:
    graph = sampling_graph(seed=5)
    graph["text"]["inputs"]["width"] = 64
    with pytest.raises(PromptError) as error:
        client.run(graph)
    assert error.value.node_id == "sample"
    assert error.value.exception_message
