"""A stream through ComfyUI's own loop nodes, where the server has them: from 0.36 on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.test_named_streams import folder_of, revision
from tests.integration.test_templates import LOOP_NODES, frames_of
from tests.support.tiny_graphs import Graph, of_type
from tools.client import ComfyClient
from tools.events import PromptInterrupted
from tools.server import ComfyServer

ROUNDS = 3


@pytest.fixture
def template(load_workflow: Callable[[str], Graph]) -> Graph:
    """Return the template on its demo models: a chunk a round, small, with a digest of all."""
    graph = load_workflow(f"{LOOP_NODES}.json")
    settings: dict[str, dict[str, Any]] = {
        "AdaStateStream": {"chunks": 1},
        "BasicScheduler": {"steps": 2},
        "EmptyHunyuanLatentVideo": {"width": 64, "height": 64},
    }
    for kind, values in settings.items():
        graph[only(graph, kind)]["inputs"].update(values)
    return with_digest(graph, [only(graph, "EndLoop"), 0])


def only(graph: Graph, kind: str) -> str:
    (key,) = of_type(graph, kind)
    return key


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def with_digest(graph: Graph, state: list[Any]) -> Graph:
    graph["read"] = node("AdaStateRead", state=state)
    graph["digest"] = node("AdaStateTestDigest", value=["read", 2])
    return graph


def named(graph: Graph, name: str) -> Graph:
    graph = json.loads(json.dumps(graph))
    graph[only(graph, "AdaStateOpenStream")]["inputs"]["name"] = name
    return graph


def prompts_of(graph: Graph) -> list[str]:
    return [graph[key]["inputs"]["value"] for key in of_type(graph, "PrimitiveStringMultiline")]


def without_loop(graph: Graph, prompts: list[str], chunks: int = 1) -> Graph:
    """Return the same stream by one Stream Chunks for each prompt, one behind the other."""
    graph = json.loads(json.dumps(graph))
    encode = graph[graph[only(graph, "AdaStateStream")]["inputs"]["positive"][0]]
    step = graph.pop(only(graph, "AdaStateStream"))
    state: list[Any] = [only(graph, "AdaStateNewStream"), 0]
    for kind in ("StartLoop", "EndLoop", "CreateList", "AdaStateCommitStream", "SaveVideo"):
        del graph[only(graph, kind)]
    for kind in ("CreateVideo", "AdaStateDecode", "AdaStateOpenStream"):
        del graph[only(graph, kind)]
    for key in [key for key, made in graph.items() if made is encode]:
        del graph[key]
    for i, prompt in enumerate(prompts):
        graph[f"text{i}"] = node("CLIPTextEncode", **{**encode["inputs"], "text": prompt})
        inputs = {"state": state, "positive": [f"text{i}", 0], "chunks": chunks}
        graph[f"step{i}"] = node("AdaStateStream", **{**step["inputs"], **inputs})
        state = [f"step{i}", 0]
    return with_digest(graph, state)


def without_name(graph: Graph) -> Graph:
    """Wire New Stream into the loop and Stream Chunks out of it, as the note describes."""
    graph = json.loads(json.dumps(graph))
    start, end = (graph[only(graph, kind)]["inputs"] for kind in ("StartLoop", "EndLoop"))
    start["initial_iteration_value"] = [only(graph, "AdaStateNewStream"), 0]
    end["output_value"] = end["next_iteration_value"] = [only(graph, "AdaStateStream"), 0]
    for kind in ("AdaStateOpenStream", "AdaStateCommitStream"):
        del graph[only(graph, kind)]
    return graph


def digest(client: ComfyClient, graph: Graph) -> dict[str, Any]:
    return dict(client.run(graph).outputs["digest"])


def test_rounds_are_to_the_bit_what_steps_without_a_loop_are(
    template: Graph, server: ComfyServer, client: ComfyClient
) -> None:
    """One prompt a round, and the next run goes on with all of them."""
    prompts = prompts_of(template)
    assert len(set(prompts)) == ROUNDS
    for run in (1, 2):
        result = client.run(named(template, "looped"))
        assert result.outputs["digest"] == digest(client, without_loop(template, prompts * run))
        assert revision(server, "looped") == ROUNDS * run
        (video,) = [f for f in result.files(server.base_dir) if f.suffix == ".mp4"]
        assert frames_of(video) == 4 * 3 * ROUNDS * run - 3


def test_rounds_of_one_prompt_are_the_chunks_of_one_node(
    template: Graph, client: ComfyClient
) -> None:
    prompt = prompts_of(template)[0]
    for key in of_type(template, "PrimitiveStringMultiline"):
        template[key]["inputs"]["value"] = prompt
    one = digest(client, without_loop(template, [prompt], chunks=ROUNDS))
    assert digest(client, named(template, "one prompt")) == one


def test_cancelling_keeps_the_rounds_that_were_finished(
    template: Graph, server: ComfyServer, client: ComfyClient
) -> None:
    """The next run goes on behind them, and begins with the first prompt."""
    graph = named(template, "cancelled")
    graph[only(graph, "AdaStateStream")]["inputs"]["chunks"] = 8

    def cancel() -> None:
        while not (folder_of(server, "cancelled") / "manifest.json").exists():
            time.sleep(0.02)
        client.interrupt()

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(PromptInterrupted):
        client.run(graph)
    kept = revision(server, "cancelled")
    assert 0 < kept < ROUNDS
    graph[only(graph, "AdaStateStream")]["inputs"]["chunks"] = 1
    found = digest(client, graph)
    prompts = prompts_of(template)
    before = [prompt for prompt in prompts[:kept] for _ in range(8)]
    assert found == digest(client, without_loop(template, before + prompts))


def test_a_round_may_do_more_and_a_list_may_be_longer(
    template: Graph, server: ComfyServer, client: ComfyClient
) -> None:
    """A fourth prompt, and a video saved in every round, wired to a termination."""
    graph = named(template, "saved")
    prompts = [*prompts_of(graph), "red square moving left, camera still, hills"]
    graph["fourth"] = node("PrimitiveStringMultiline", value=prompts[-1])
    graph[only(graph, "CreateList")]["inputs"]["inputs.input3"] = ["fourth", 0]
    save, video, decode = (
        graph[only(graph, kind)]["inputs"]
        for kind in ("SaveVideo", "CreateVideo", "AdaStateDecode")
    )
    commit = only(graph, "AdaStateCommitStream")
    graph["look"] = node("AdaStateDecode", **{**decode, "state": [commit, 0]})
    graph["clip"] = node("CreateVideo", **{**video, "images": ["look", 0]})
    inputs = {**save, "video": ["clip", 0], "filename_prefix": "adastate/round"}
    graph["keep"] = node("SaveVideo", **inputs)
    graph[only(graph, "EndLoop")]["inputs"]["terminations.termination0"] = ["keep", 0]
    result = client.run(graph)
    assert result.outputs["digest"] == digest(client, without_loop(template, prompts))
    files = server.output_dir.glob("adastate/round_*.mp4")
    assert sorted(map(frames_of, files)) == [12 * done - 3 for done in (1, 2, 3, 4)]


def test_without_a_name_a_second_run_makes_the_same_stream(
    template: Graph, client: ComfyClient
) -> None:
    graph = without_name(template)
    straight = digest(client, without_loop(template, prompts_of(template)))
    assert digest(client, graph) == straight
    again = client.run(graph)
    step = only(graph, "AdaStateStream")
    made = [key for key in again.executed if key.endswith(f"_{step}")]
    assert len(made) == ROUNDS
    assert again.outputs["digest"] == straight
