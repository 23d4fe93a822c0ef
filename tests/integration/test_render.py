"""Render Stream to Video on a real server: what it shows, and what is left when it dies."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support import tiny_models
from tools.client import ComfyClient
from tools.events import PromptInterrupted
from tools.server import ComfyServer

Graph = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def graph(prefix: str, chunks: int, seed: int = 0) -> Graph:
    sizes = {"width": 64, "height": 64, "length": 9, "batch_size": 1}
    return {
        "load": node(
            "AdaStateLoadModel", model_name=tiny_models.WAN, weight_dtype="default", shift=0.0
        ),
        "apply": node(
            "AdaStateApply",
            model=["load", 0],
            anchor="adaptive",
            chunk_frames=3,
            window_frames=3,
            state_frames=1,
            anchor_frames=3,
        ),
        "text": node("AdaStateTestConditioning", seed=1, tokens=8, width=4096),
        "latent": node("EmptyHunyuanLatentVideo", **sizes),
        "new": node("AdaStateNewStream", latent=["latent", 0], history_chunks=0),
        "vae": node("VAELoader", vae_name=tiny_models.WAN_VAE),
        "sampler": node("KSamplerSelect", sampler_name="lcm"),
        "sigmas": node(
            "BasicScheduler", model=["apply", 0], scheduler="simple", steps=2, denoise=1.0
        ),
        "render": node(
            "AdaStateRender",
            model=["apply", 0],
            state=["new", 0],
            positive=["text", 0],
            vae=["vae", 0],
            cfg=1.0,
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            seed=seed,
            chunks=chunks,
            fps=16.0,
            filename_prefix=prefix,
        ),
    }


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.floor
def test_no_preview_takes_the_place_of_the_video(client: ComfyClient) -> None:
    """ComfyUI's page shows a node's last preview for its result, as long as there is one."""
    result = client.run(graph("render/preview", 2))
    assert not result.previews
    (shown,) = result.outputs["render"]["images"]
    assert shown["filename"].endswith(".mp4")
    assert result.outputs["render"]["animated"] == [True]


@pytest.mark.floor
def test_stock_nodes_take_the_video(client: ComfyClient, base_dir: Path) -> None:
    prompt = graph("render/stock", 2)
    prompt["save"] = node(
        "SaveVideo",
        video=["render", 1],
        filename_prefix="render/saved",
        format="auto",
        codec="auto",
    )
    prompt["parts"] = node("GetVideoComponents", video=["render", 1])
    prompt["pictures"] = node("SaveImage", images=["parts", 0], filename_prefix="render/picture")
    result = client.run(prompt)
    assert len(result.files(base_dir, "pictures")) == 21
    (copy,) = result.files(base_dir, "save")
    assert len(frames_of(copy)) == 21


def wait_for(check: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def lines(video: Path) -> list[dict[str, Any]]:
    """Read the receipts of a video."""
    return [json.loads(line) for line in video.with_suffix(".jsonl").read_text().splitlines()]


def written(folder: Path) -> int:
    """Count the receipts of chunks in the one recording of a folder."""
    for path in folder.glob("*.jsonl"):
        return path.read_text().count('"event": "chunk"')
    return 0


@pytest.mark.floor
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_kill_leaves_a_file_that_plays(
    mortal_server: ComfyServer, connect: Callable[[ComfyServer], ComfyClient]
) -> None:
    server = mortal_server
    folder = server.base_dir / "output" / "render"
    connect(server).queue(
        graph("render/killed", 100_000), {"extra_pnginfo": {"workflow": {"a": 1}}}
    )
    wait_for(lambda: written(folder) >= 3)
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    (path,) = folder.glob("*.mp4")
    frames = len(frames_of(path))
    assert (frames - 9) % 12 == 0
    assert frames >= 9 + 2 * 12
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["workflow"]) == {"a": 1}
        assert "render" in json.loads(container.metadata["prompt"])
    noted = lines(path)[1:]
    # The receipt of a chunk follows its fragment.
    assert noted[-1]["frames"][1] + 1 in (frames, frames - 12)


@pytest.mark.floor
def test_cancel_keeps_what_is_made(client: ComfyClient, base_dir: Path) -> None:
    folder = base_dir / "output" / "render" / "cancelled"
    prompt_id = client.queue(graph("render/cancelled/video", 100_000))
    wait_for(lambda: written(folder) >= 2)
    client.interrupt(prompt_id)
    with pytest.raises(PromptInterrupted):
        client.wait(prompt_id)
    (path,) = folder.glob("*.mp4")
    made = lines(path)[1:]
    assert made[-1]["event"] == "end"
    assert made[-1]["reason"].startswith("InterruptProcessingException")
    chunks = len(made) - 1
    assert len(frames_of(path)) == made[-1]["frames"] == 9 + 12 * (chunks - 1)

    onward = graph("render/cancelled/video", 2)
    listed = f"render/cancelled/{path.stem}.stopped.adastate.safetensors [output]"
    onward["new"] = node("AdaStateLoad", file=listed)
    (rest,) = client.run(onward).files(base_dir, "render")
    assert len(frames_of(rest)) == 24
    assert lines(rest)[0]["first_chunk"] == chunks
