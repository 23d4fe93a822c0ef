"""The panel over the websocket of a real server, and its document over HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import requests
from PIL import Image

from tests.integration.test_streams import base_graph, step
from tests.integration.test_timeline import BEFORE, CHUNKS, graph
from tools.client import ComfyClient
from tools.server import ComfyServer

WORKFLOW = {"workflow": {"id": "a-workflow"}}


def followed(client: ComfyClient, prompt: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a prompt as the page would and return the panel's events, as another page gets them."""
    events: list[dict[str, Any]] = []

    async def follow() -> None:
        async with aiohttp.ClientSession() as session:
            address = f"{client.url}/ws?clientId=looker"
            async with session.ws_connect(address, max_msg_size=0) as socket:
                queued = await asyncio.to_thread(client.queue, prompt, {"extra_pnginfo": WORKFLOW})
                deadline = time.monotonic() + 120
                while time.monotonic() < deadline:
                    message = await socket.receive(timeout=120)
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        continue
                    event = json.loads(message.data)
                    if event["type"] == "adastate.panel":
                        events.append({**event["data"], "prompt_id": queued})
                    if event["type"] == "adastate.panel" and event["data"]["what"] == "end":
                        return

    asyncio.run(follow())
    client.wait(events[0]["prompt_id"])
    return events


def document(client: ComfyClient, node: str) -> Any:
    place = {"workflow": WORKFLOW["workflow"]["id"], "node": node}
    return client.get(f"/adastate/panel?{urlencode(place)}")


def shown(client: ComfyClient, folder: str, name: str) -> Image.Image:
    place = {"type": "temp", "subfolder": folder, "filename": name}
    reply = requests.get(f"{client.url}/view?{urlencode(place)}", timeout=60)
    reply.raise_for_status()
    return Image.open(io.BytesIO(reply.content))


@pytest.mark.floor
def test_a_page_follows_a_stream_and_a_later_one_finds_it(client: ComfyClient) -> None:
    prompt = base_graph() | {"s": step(["new", 0], seed=1, chunks=2)}
    prompt["digest"] = {"class_type": "AdaStateTestDigest", "inputs": {"value": ["s", 1]}}
    events = followed(client, prompt)
    kinds = [event["what"] for event in events if event["what"] != "status"]
    assert kinds == ["begin", "chunk", "chunk", "end"]
    assert {(e["workflow"], e["node"], e["run"]) for e in events} == {
        ("a-workflow", "s", events[0]["prompt_id"])
    }
    panel = document(client, "s")
    assert panel["state"] == "done"
    told = [event["chunk"] for event in events if event["what"] == "chunk"]
    assert [c["latents"] for c in panel["chunks"]] == [c["latents"] for c in told]
    for chunk in panel["chunks"]:
        tile = shown(client, panel["folder"], chunk["tile"])
        assert (tile.format, tile.n_frames) == ("WEBP", chunk["tile_frames"]) == ("WEBP", 3)
        assert shown(client, panel["folder"], chunk["hidden"]).format == "WEBP"
    assert document(client, "none") is None


def test_a_timeline_is_shown_at_its_own_node(client: ComfyClient) -> None:
    client.free()
    events = followed(client, graph(BEFORE))
    assert {event["node"] for event in events} == {"stream"}
    begin = events[0]["panel"]
    assert (begin["first_chunk"], begin["chunks_wanted"]) == (0, CHUNKS)
    prompts = [event["chunk"]["prompt"] for event in events if event["what"] == "chunk"]
    third = "yellow circle moving up"
    assert prompts == ["red circle moving left", "blue square moving right", third, third]
    said = [event["status"]["text"] for event in events if event["what"] == "status"]
    assert any(text.startswith(f"chunk 1 of {CHUNKS} - blue square moving right") for text in said)
    assert (events[-1]["state"], events[-1]["text"]) == (
        "done",
        f"{CHUNKS} chunks = 45 frames, 2.8 s",
    )
    # After an edit of the last line the chunks before it stay, with their pictures.
    after = followed(client, graph(BEFORE.replace("yellow", "green")))
    kept = [event for event in after if event["what"] == "begin"][-1]["panel"]["chunks"]
    assert [chunk["index"] for chunk in kept] == [0, 1]
    assert [chunk["index"] for chunk in document(client, "stream")["chunks"]] == [0, 1, 2, 3]


def test_previews_of_the_server_change_nothing(
    server_with: Callable[..., ComfyServer], connect: Callable[[ComfyServer], ComfyClient]
) -> None:
    client = connect(server_with("--preview-method", "latent2rgb"))
    prompt = base_graph() | {"s": step(["new", 0], seed=1, chunks=1)}
    prompt["digest"] = {"class_type": "AdaStateTestDigest", "inputs": {"value": ["s", 1]}}
    (chunk,) = (e["chunk"] for e in followed(client, prompt) if e["what"] == "chunk")
    assert chunk["tile_frames"] == 3
