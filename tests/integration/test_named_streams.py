"""Named streams on a real server: the same prompt again and again, restarts, failures and kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_streams import CACHES, base_graph, forwards, node, step
from tools.client import ComfyClient
from tools.events import PromptError
from tools.server import ComfyServer

KILLS = int(os.environ.get("ADASTATE_KILLS", "2"))
"""How often the server is killed; `make kill-test` does it more often."""
SEED = 6
Connect = Callable[[ComfyServer], ComfyClient]


def prompt(name: str, *, chunks: int = 1) -> dict[str, Any]:
    """Return the prompt that is queued again and again, with a digest of all content so far."""
    graph = base_graph()
    graph["open"] = node("AdaStateOpenStream", name=name, start=["new", 0])
    graph["step"] = step(["open", 0], SEED, chunks)
    graph["commit"] = node("AdaStateCommitStream", state=["step", 0], after=["step", 1])
    graph["read"] = node("AdaStateRead", state=["commit", 0])
    graph["digest"] = node("AdaStateTestDigest", value=["read", 2])
    return graph


def uninterrupted(client: ComfyClient, chunks: int) -> dict[str, Any]:
    """Return the digest of one stream of so many chunks."""
    graph = base_graph()
    graph["step"] = step(["new", 0], SEED, chunks)
    graph["read"] = node("AdaStateRead", state=["step", 0])
    graph["digest"] = node("AdaStateTestDigest", value=["read", 2])
    return dict(client.run(graph).outputs["digest"])


def folder_of(server: ComfyServer, name: str) -> Path:
    return server.output_dir / "adastate" / "streams" / name


def revision(server: ComfyServer, name: str) -> int:
    path = folder_of(server, name) / "manifest.json"
    return int(json.loads(path.read_text())["revision"]) if path.exists() else 0


def length(chunks: int) -> str:
    """Return what a commit says of a stream: 3 latent frames a chunk, at 16 images a second."""
    noun = "chunk" if chunks == 1 else "chunks"
    return f"{chunks} {noun}, {(12 * chunks - 3) / 16:.1f} s"


@pytest.mark.floor
def test_the_same_prompt_five_times_makes_five_times_the_chunks(
    server: ComfyServer, client: ComfyClient
) -> None:
    for done in range(5):
        client.post("/adastate_test/reset")
        outputs = client.run(prompt("five")).outputs
        # Two steps a chunk, and the commit of the chunk before: nothing older is replayed.
        assert forwards(client) == (3 if done else 2)
        assert outputs["commit"]["text"] == [f"five: revision {done + 1}, {length(done + 1)}"]
        assert outputs["digest"]["shape"][2] == 3 * (done + 1)
    assert outputs["digest"] == uninterrupted(client, 5)
    assert revision(server, "five") == 5


@pytest.mark.parametrize("flags", CACHES, ids=["default", "lru", "none"])
def test_every_cache_goes_on(
    server_with: Callable[..., ComfyServer], connect: Connect, flags: tuple[str, ...]
) -> None:
    client = connect(server_with(*flags))
    for done in range(3):
        outputs = client.run(prompt("cached", chunks=2)).outputs
        assert outputs["commit"]["text"] == [f"cached: revision {done + 1}, {length(2 * done + 2)}"]
        if done == 1:
            client.free()
    assert outputs["digest"] == uninterrupted(client, 6)


def restart(server: ComfyServer) -> None:
    server.stop()
    server.__enter__()


@pytest.mark.floor
def test_a_restarted_server_goes_on(mortal_server: ComfyServer) -> None:
    with ComfyClient(mortal_server.url) as client:
        for _ in range(2):
            client.run(prompt("across"))
    restart(mortal_server)
    with ComfyClient(mortal_server.url) as client:
        for done in (3, 4):
            outputs = client.run(prompt("across")).outputs
            assert outputs["commit"]["text"] == [f"across: revision {done}, {length(done)}"]
        assert outputs["digest"] == uninterrupted(client, 4)


def test_a_failure_before_the_commit_commits_nothing(
    server: ComfyServer, client: ComfyClient
) -> None:
    client.run(prompt("careful"))
    graph = prompt("careful")
    graph["saving"] = step(["step", 0], SEED)
    graph["saving"]["inputs"]["model"] = ["load", 0]  # fails: it did not go through Apply
    graph["commit"]["inputs"]["after"] = ["saving", 1]
    for _ in range(2):
        with pytest.raises(PromptError) as error:
            client.run(graph)
        assert error.value.node_id == "saving"
        assert revision(server, "careful") == 1
    graph = prompt("careful")
    graph["step"]["inputs"]["model"] = ["load", 0]
    with pytest.raises(PromptError, match="Apply AdaState"):
        client.run(graph)
    assert revision(server, "careful") == 1
    client.post("/adastate_test/reset")
    assert client.run(prompt("careful")).outputs["digest"] == uninterrupted(client, 2)
    assert revision(server, "careful") == 2


def test_a_deleted_folder_is_made_anew(server: ComfyServer, client: ComfyClient) -> None:
    first = client.run(prompt("again")).outputs["digest"]
    client.run(prompt("again"))
    shutil.rmtree(folder_of(server, "again"))
    for done in range(2):
        outputs = client.run(prompt("again")).outputs
        assert outputs["commit"]["text"] == [f"again: revision {done + 1}, {length(done + 1)}"]
        assert done or outputs["digest"] == first


def test_a_folder_that_was_put_back_goes_on_from_there(
    server_with: Callable[..., ComfyServer], connect: Connect, tmp_path: Path
) -> None:
    """The cache has seen this very revision before, and everything that was made of it."""
    server = server_with("--cache-lru", "50")
    client = connect(server)
    client.run(prompt("backup"))
    folder = folder_of(server, "backup")
    copy = shutil.copytree(folder, tmp_path / "copy")
    for _ in range(2):
        expected = client.run(prompt("backup")).outputs["digest"]
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    for done in (2, 3):
        outputs = client.run(prompt("backup")).outputs
        assert outputs["commit"]["text"] == [f"backup: revision {done}, {length(done)}"]
    assert outputs["digest"] == expected


def test_of_two_commits_to_one_revision_the_second_fails(
    server: ComfyServer, client: ComfyClient
) -> None:
    graph = prompt("rivals")
    graph["other"] = step(["open", 0], SEED + 1)
    graph["late"] = node("AdaStateCommitStream", state=["other", 0], after=["digest_of", 0])
    graph["digest_of"] = node("AdaStateTestRandomState", after=["commit", 0])
    with pytest.raises(PromptError) as error:
        client.run(graph)
    assert error.value.node_id == "late"
    assert 'Another run has begun the stream "rivals" first.' in error.value.exception_message
    (kept,) = folder_of(server, "rivals").parent.glob("rivals.refused_*")
    assert str(kept) in error.value.exception_message
    assert revision(server, "rivals") == 1
    assert client.run(prompt("rivals")).outputs["digest"] == uninterrupted(client, 2)


def test_a_list_to_wait_for_commits_once(server: ComfyServer, client: ComfyClient) -> None:
    graph = prompt("list")
    graph["images"] = node("EmptyImage", width=8, height=8, batch_size=3, color=0)
    graph["items"] = node("RebatchImages", images=["images", 0], batch_size=1)
    graph["commit"]["inputs"]["after"] = ["items", 0]
    client.run(graph)
    assert revision(server, "list") == 1


def test_names_are_refused_before_anything_runs(server: ComfyServer, client: ComfyClient) -> None:
    for name in ("../up", "CON", "", ["new", 0]):
        graph = prompt("any")
        graph["open"]["inputs"]["name"] = name
        with pytest.raises(PromptError):
            client.queue(graph)
    graph["open"]["inputs"]["name"] = "../up"
    with pytest.raises(PromptError, match="Change name on Open Stream"):
        client.queue(graph)
    assert not (server.output_dir / "adastate" / "up").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_relay_that_is_killed_ends_as_if_it_was_not(mortal_server: ComfyServer) -> None:
    server = mortal_server
    moments = random.Random(5)
    seen = 0
    for _ in range(KILLS):
        with ComfyClient(server.url) as client:
            client.run(prompt("relay"))
            assert revision(server, "relay") == seen + 1  # it went on from the last commit
            for _ in range(40):
                client.queue(prompt("relay"))
            time.sleep(moments.uniform(0.0, 1.5))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
        now = revision(server, "relay")
        assert now > seen
        seen = now
        restart(server)
    with ComfyClient(server.url) as client:
        outputs = client.run(prompt("relay")).outputs
        total = revision(server, "relay")
        assert total == seen + 1
        assert outputs["digest"] == uninterrupted(client, total)
    kinds = sorted({path.name.split(".")[0] for path in folder_of(server, "relay").iterdir()})
    assert kinds == ["", "log", "manifest", "segment", "thumbnail"]
    assert len(list(folder_of(server, "relay").iterdir())) == 5
