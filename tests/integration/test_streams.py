"""Streams on a real server: what the cache runs, what memory holds, what cancelling leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_models
from tools.client import ComfyClient
from tools.events import PromptError, PromptInterrupted
from tools.server import ComfyServer

# K and V of one state and three content frames: 16 tokens, 128 channels, 2 layers, float32.
SET_BYTES = 2 * 4 * 16 * 128 * 2 * 4
CACHES = [(), ("--cache-lru", "50"), ("--cache-none",)]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def base_graph(model: str = tiny_models.WAN, *, sampler: str = "lcm") -> dict[str, Any]:
    """Return a graph up to an empty stream."""
    return {
        "load": node("AdaStateLoadModel", model_name=model, weight_dtype="default", shift=0.0),
        "apply": node(
            "AdaStateApply",
            model=["load", 0],
            anchor="adaptive",
            chunk_frames=3,
            window_frames=3,
            state_frames=1,
            anchor_frames=3,
        ),
        "count": node("AdaStateTestCountForwards", model=["apply", 0], name="stream"),
        "text": node("AdaStateTestConditioning", seed=1, tokens=8, width=4096),
        "latent": node("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1),
        "new": node("AdaStateNewStream", latent=["latent", 0], history_chunks=0),
        "sampler": node("KSamplerSelect", sampler_name=sampler),
        "sigmas": node(
            "BasicScheduler", model=["apply", 0], scheduler="simple", steps=2, denoise=1.0
        ),
    }


def step(state: list[Any], seed: int, chunks: int = 1) -> dict[str, Any]:
    return node(
        "AdaStateStream",
        model=["count", 0],
        state=state,
        positive=["text", 0],
        cfg=1.0,
        sampler=["sampler", 0],
        sigmas=["sigmas", 0],
        seed=seed,
        chunks=chunks,
    )


def chain(seeds: list[int]) -> dict[str, Any]:
    """Return a graph of one-chunk steps, each with a digest of its frames."""
    graph = base_graph()
    state: list[Any] = ["new", 0]
    for i, seed in enumerate(seeds):
        graph[f"step{i}"] = step(state, seed)
        graph[f"digest{i}"] = node("AdaStateTestDigest", value=[f"step{i}", 1])
        state = [f"step{i}", 0]
    return graph


def forwards(client: ComfyClient) -> int:
    return int(client.get("/adastate_test/forwards").get("stream", 0))


@pytest.mark.floor
def test_only_what_changed_runs(client: ComfyClient) -> None:
    client.post("/adastate_test/reset")
    first = client.run(chain([1, 2, 3]))
    assert forwards(client) == 3 * 2 + 2  # two steps a chunk, a commit between chunks
    assert first.previews
    again = client.run(chain([1, 2, 3]))
    assert again.executed == ()
    client.post("/adastate_test/reset")
    other = client.run(chain([1, 2, 4]))
    assert [other.ran(f"step{i}") for i in range(3)] == [False, False, True]
    assert forwards(client) == 2  # re-rolling the last chunk replays nothing
    assert other.outputs["digest2"] != first.outputs["digest2"]


@pytest.mark.parametrize(
    ("flags", "made"),
    [((), 1), (("--cache-classic",), 1), (("--cache-lru", "50"), 1), (("--cache-none",), 4)],
    ids=["default", "classic", "lru", "none"],
)
def test_an_edit_of_the_last_of_four_steps_in_every_cache(
    server_with: Callable[..., ComfyServer],
    connect: Callable[[ComfyServer], ComfyClient],
    flags: tuple[str, ...],
    made: int,
) -> None:
    client = connect(server_with(*flags))
    client.free()
    client.run(chain([1, 2, 3, 4]))
    client.post("/adastate_test/reset")
    after = client.run(chain([1, 2, 3, 5]))
    assert forwards(client) == made * 2 + made - 1
    client.free()
    assert client.run(chain([1, 2, 3, 5])).outputs["digest3"] == after.outputs["digest3"]


@pytest.mark.floor
def test_one_node_of_three_chunks_equals_three_nodes(client: ComfyClient) -> None:
    graph = base_graph()
    graph["all"] = step(["new", 0], 1, chunks=3)
    graph["read"] = node("AdaStateRead", state=["all", 0])
    graph["digest"] = node("AdaStateTestDigest", value=["read", 2])
    at_once = client.run(graph).outputs["digest"]
    graph = chain([1, 1, 1])
    graph["read"] = node("AdaStateRead", state=["step2", 0])
    graph["digest"] = node("AdaStateTestDigest", value=["read", 2])
    assert client.run(graph).outputs["digest"] == at_once
    assert at_once["shape"] == [1, 16, 9, 8, 8]


@pytest.mark.parametrize("flags", CACHES, ids=["default", "lru", "none"])
def test_keys_and_values_stay_within_the_pool(
    server_with: Callable[..., ComfyServer],
    connect: Callable[[ComfyServer], ComfyClient],
    flags: tuple[str, ...],
) -> None:
    client = connect(server_with(*flags))
    client.free()
    # Without a cache of outputs the MODEL goes after each prompt, and its pool with it.
    least = 0 if "--cache-none" in flags else 1
    for seed in range(3):  # one more than there may be sets
        client.run(chain([1, 2, 100 + seed]))
        alive = client.get("/adastate_test/kv")
        assert least <= alive["sets"] <= 2
        assert alive["largest"] == (SET_BYTES if alive["sets"] else 0)
        assert alive["bytes"] <= 2 * SET_BYTES
    unload(client)


def unload(client: ComfyClient) -> None:
    """Unload the models, and with them the pool; finished nodes stay cached."""
    client.post("/free", {"unload_models": True})
    deadline = time.monotonic() + 20
    while client.get("/adastate_test/kv")["bytes"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert client.get("/adastate_test/kv")["bytes"] == 0


@pytest.mark.floor
def test_a_freed_server_continues_with_one_replay(client: ComfyClient) -> None:
    client.run(chain([1, 2, 3]))
    warm = client.run(chain([1, 2, 4]))
    client.run(chain([1, 2, 3]))
    unload(client)
    client.post("/adastate_test/reset")
    graph = chain([1, 2, 5])
    client.run(graph)
    assert forwards(client) == 2 + 2  # two commits, then the two steps of the one new chunk
    unload(client)
    graph["step2"]["inputs"]["seed"] = 4
    assert client.run(graph).outputs["digest2"] == warm.outputs["digest2"]


@pytest.mark.floor
def test_cancelling_stops_at_a_step_and_leaves_its_chunks_and_no_memory(
    client: ComfyClient, base_dir: Path
) -> None:
    files = base_dir / "output" / "adastate"
    kept = set(files.glob("stopped_*"))
    client.run(chain([1, 2]))
    before = client.get("/adastate_test/kv")
    client.post("/adastate_test/reset")
    graph = chain([1, 2])
    graph["long"] = step(["step1", 0], 9, chunks=500)
    graph["digest"] = node("AdaStateTestDigest", value=["long", 1])

    def interrupt() -> None:
        while forwards(client) < 8:
            time.sleep(0.02)
        client.interrupt()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(PromptInterrupted):
        client.run(graph)
    assert forwards(client) < 100
    after = client.get("/adastate_test/kv")
    for _ in range(200):  # the prompt is told to have stopped a moment before its frames are gone
        if after["sets"] <= 2:
            break
        time.sleep(0.1)
        after = client.get("/adastate_test/kv")
    (written,) = set(files.glob("stopped_*")) - kept
    assert before["largest"] == after["largest"] == SET_BYTES
    assert after["sets"] <= 2
    assert after["bytes"] <= 2 * SET_BYTES
    client.post("/adastate_test/reset")
    graph = chain([1, 2])
    graph["next"] = step(["step1", 0], 9)
    graph["digest"] = node("AdaStateTestDigest", value=["next", 1])
    client.run(graph)
    assert forwards(client) == 2  # the state that went in still has its cache
    graph = {
        "load": node("AdaStateLoad", file=f"adastate/{written.name} [output]"),
        "read": node("AdaStateRead", state=["load", 0]),
        "index": node("PreviewAny", source=["read", 3]),
    }
    (index,) = client.run(graph).outputs["index"]["text"]
    assert 4 <= int(index) < 500  # two chunks before, and two or more of this node


@pytest.mark.parametrize("sampler", ["lcm", "ddim", "heunpp2"])
def test_nodes_leave_the_global_random_state_alone(client: ComfyClient, sampler: str) -> None:
    graph = base_graph(sampler=sampler)
    graph["before"] = node("AdaStateTestRandomState", after=["new", 0])
    graph["step"] = step(["before", 0], int(time.time()), chunks=2)
    graph["after"] = node("AdaStateTestRandomState", after=["step", 0])
    outputs = client.run(graph).outputs
    assert outputs["before"] == outputs["after"]


@pytest.mark.floor
def test_save_and_load_through_the_queue(client: ComfyClient) -> None:
    graph = chain([1, 2])
    graph["save"] = node("AdaStateSave", state=["step1", 0], filename_prefix="relay/state")
    saved = client.run(graph).outputs["save"]["text"][0]
    graph = base_graph()
    graph["file"] = node("AdaStateLoad", file=saved)
    graph["step"] = step(["file", 0], 3)
    graph["digest"] = node("AdaStateTestDigest", value=["step", 1])
    expected = client.run(chain([1, 2, 3])).outputs["digest2"]
    assert client.run(graph).outputs["digest"] == expected


def test_errors_reach_the_artist_as_one_sentence(client: ComfyClient) -> None:
    graph = chain([1])
    graph["step0"]["inputs"]["model"] = ["load", 0]
    with pytest.raises(PromptError) as error:
        client.run(graph)
    assert error.value.node_id == "step0"
    assert "Put Apply AdaState between" in error.value.exception_message
    graph = base_graph()
    graph["file"] = node("AdaStateLoad", file="../../secret.adastate.safetensors [output]")
    graph["step"] = step(["file", 0], 3)
    graph["digest"] = node("AdaStateTestDigest", value=["step", 1])
    with pytest.raises(PromptError, match="Choose another file on Load State"):
        client.queue(graph)


def test_our_files_are_served(client: ComfyClient) -> None:
    definitions = client.object_info()
    assert definitions["AdaStateStream"]["input"]["required"]["chunks"][1]["default"] == 7
    templates = client.get("/workflow_templates")
    assert len(templates["adastate"]) >= 3
