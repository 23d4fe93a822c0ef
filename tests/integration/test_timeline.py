"""Stream Timeline on a real server: what an edit of the text runs again, in every cache."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_streams import node
from tools.client import ComfyClient
from tools.events import PromptError, PromptInterrupted
from tools.server import ComfyServer

STEPS, CHUNKS = 2, 4
BEFORE = "0: red circle moving left\n1: blue square moving right\n2: yellow circle moving up"
AFTER = BEFORE.replace("yellow", "green")


def graph(timeline: str, **changes: Any) -> dict[str, Any]:
    """Return a graph that streams the demo model along a timeline."""
    made = {
        "load": node("AdaStateLoadDemo"),
        "apply": node(
            "AdaStateApply",
            model=["load", 0],
            anchor="adaptive",
            chunk_frames=3,
            window_frames=3,
            state_frames=1,
            anchor_frames=3,
        ),
        "count": node("AdaStateTestCountForwards", model=["apply", 0], name="timeline"),
        "latent": node("EmptyHunyuanLatentVideo", width=64, height=64, length=9, batch_size=1),
        "new": node("AdaStateNewStream", latent=["latent", 0], history_chunks=0),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node(
            "BasicScheduler", model=["apply", 0], scheduler="simple", steps=STEPS, denoise=1.0
        ),
        "stream": node(
            "AdaStateStreamTimeline",
            model=["count", 0],
            state=["new", 0],
            clip=["load", 1],
            timeline=timeline,
            cfg=1.0,
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            seed=3,
            chunks=CHUNKS,
            fps=16.0,
        ),
        "digest": node("AdaStateTestDigest", value=["stream", 1]),
        "read": node("AdaStateRead", state=["stream", 0]),
        "report": node("PreviewAny", source=["read", 4]),
    }
    made["stream"]["inputs"] |= changes
    return made


def by_hand(chunks: list[tuple[str, int]]) -> dict[str, Any]:
    """Return the same with a Stream Chunks for each prompt and its number of chunks."""
    made = graph(BEFORE)
    state: list[Any] = ["new", 0]
    for i, (text, count) in enumerate(chunks):
        made[f"text{i}"] = node("CLIPTextEncode", text=text, clip=["load", 1])
        made[f"step{i}"] = node(
            "AdaStateStream",
            model=["count", 0],
            state=state,
            positive=[f"text{i}", 0],
            cfg=1.0,
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            seed=3,
            chunks=count,
        )
        state = [f"step{i}", 0]
    made["read"] = node("AdaStateRead", state=state)
    made["digest"] = node("AdaStateTestDigest", value=["read", 2])
    del made["stream"], made["report"]
    return made


def forwards(client: ComfyClient) -> int:
    return int(client.get("/adastate_test/forwards").get("timeline", 0))


@pytest.mark.parametrize(
    ("flags", "kept"),
    [((), 2), (("--cache-classic",), 2), (("--cache-lru", "50"), 2), (("--cache-none",), 0)],
    ids=["default", "classic", "lru", "none"],
)
def test_an_edit_runs_what_comes_after_it(
    server_with: Callable[..., ComfyServer],
    connect: Callable[[ComfyServer], ComfyClient],
    flags: tuple[str, ...],
    kept: int,
) -> None:
    client = connect(server_with(*flags))
    client.free()
    client.post("/adastate_test/reset")
    before = client.run(graph(BEFORE))
    assert forwards(client) == CHUNKS * STEPS + CHUNKS - 1
    client.post("/adastate_test/reset")
    after = client.run(graph(AFTER))
    # The pool still has what the first chunk that is made again looks back at.
    made = CHUNKS - kept
    assert forwards(client) == made * STEPS + made - 1
    assert after.outputs["digest"] != before.outputs["digest"]
    client.free()
    assert client.run(graph(AFTER)).outputs["digest"] == after.outputs["digest"]


@pytest.mark.floor
def test_a_cancelled_timeline_goes_on_where_it_stopped(client: ComfyClient, base_dir: Path) -> None:
    """ComfyUI keeps its finished chunks, so no file is written of them."""
    chunks, files = 12, base_dir / "output" / "adastate"
    before = set(files.glob("stopped_*"))
    client.free()
    client.post("/adastate_test/reset")

    def interrupt() -> None:
        while forwards(client) < 3 * (STEPS + 1):
            time.sleep(0.02)
        client.interrupt()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(PromptInterrupted):
        client.run(graph(BEFORE, chunks=chunks))
    assert set(files.glob("stopped_*")) == before
    client.post("/adastate_test/reset")
    client.run(graph(BEFORE, chunks=chunks))
    assert forwards(client) <= (chunks - 2) * (STEPS + 1)


@pytest.mark.floor
def test_a_timeline_is_what_steps_by_hand_are(client: ComfyClient) -> None:
    made = client.run(graph(BEFORE))
    texts = [line.split(": ")[1] for line in BEFORE.splitlines()]
    expected = client.run(by_hand(list(zip(texts, (1, 1, 2), strict=True)))).outputs["digest"]
    assert made.outputs["digest"] == expected
    assert made.outputs["digest"]["shape"] == [1, 16, 3 * CHUNKS, 8, 8]


def test_every_kind_of_line_runs(client: ComfyClient) -> None:
    timeline = (
        "0: red circle moving left\n# a comment\n\n1 blend 2: blue square moving right\n"
        "chunk 3 recache: red square moving up\n2.9s flush 1: green circle moving left"
    )
    result = client.run(graph(timeline, chunks=6))
    report = json.loads(result.outputs["report"]["text"][0])
    events = [event["event"] for event in report["events"]]
    # 2.9 s are frame 46: chunk 0 shows 9 frames, the others 12 each.
    assert events == ["chunk"] * 3 + ["recache", "chunk", "flush", "chunk", "chunk"]
    prompts = [entry["prompt"] for entry in report["prompts"]]
    assert [entry["chunk"] for entry in report["prompts"]] == [0, 1, 2, 3, 4]
    # Chunk 1 is made under half of both, on its way to the blue one.
    assert prompts == [
        "red circle moving left",
        "blue square moving right",
        "blue square moving right",
        "red square moving up",
        "green circle moving left",
    ]


@pytest.mark.floor
def test_problems_are_named_by_line_before_anything_runs(client: ComfyClient) -> None:
    client.post("/adastate_test/reset")
    for timeline, message in (
        ("0: a\nlater: b", r'Line 2: "later" is not a chunk or a time'),
        ("2: a", r"Line 1: it begins with chunk 2, but the first chunk to be made is 0"),
        ("0: a\n3: b\n2: c", r"Line 3: it begins with chunk 2, and line 2 with chunk 3"),
    ):
        with pytest.raises(PromptError, match=message):
            client.run(graph(timeline))
    assert forwards(client) == 0


@pytest.mark.floor
def test_a_render_makes_the_chunks_of_a_timeline(client: ComfyClient) -> None:
    timeline = (
        "0: red circle moving left\n1 blend 2: blue square moving right\n"
        "chunk 3 recache: red square moving up\n2.9s flush 1: green circle moving left"
    )
    prompt = graph(timeline, chunks=6)
    shared = prompt["stream"]["inputs"]
    prompt["render"] = node(
        "AdaStateRender", **shared, vae=["load", 2], filename_prefix="render/timeline"
    )
    prompt["rendered"] = node("AdaStateRead", state=["render", 0])
    prompt["rendered digest"] = node("AdaStateTestDigest", value=["rendered", 2])
    outputs = client.run(prompt).outputs
    assert outputs["rendered digest"] == outputs["digest"]


def test_a_timeline_lasts_as_many_seconds(client: ComfyClient) -> None:
    made = client.run(graph(BEFORE, chunks=99, seconds=2.0)).outputs["digest"]
    assert made["shape"] == [1, 16, 9, 8, 8]  # 33 frames, where 21 are too few


@pytest.mark.floor
def test_a_render_without_a_prompt_is_refused_before_anything_runs(client: ComfyClient) -> None:
    client.post("/adastate_test/reset")
    prompt = graph("0: a")
    shared = {**prompt["stream"]["inputs"], "vae": ["load", 2], "filename_prefix": "render/x"}
    for inputs, message in (
        ({**shared, "timeline": ""}, "There is no prompt. Connect a prompt to positive"),
        ({**shared, "timeline": "later: a"}, "later"),
        ({k: v for k, v in shared.items() if k != "clip"}, "The timeline has no text encoder"),
    ):
        with pytest.raises(PromptError, match=message):
            client.run({**prompt, "render": node("AdaStateRender", **inputs)})
    assert forwards(client) == 0
