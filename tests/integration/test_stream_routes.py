"""The routes of the streams sidebar, on a real server: what they do, and what they refuse."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.integration.test_named_streams import folder_of, prompt, revision
from tools.client import ComfyClient
from tools.events import PromptError
from tools.server import ComfyServer

JSON = {"Content-Type": "application/json"}


class Shelf:
    """The routes as a program uses them."""

    def __init__(self, server: ComfyServer) -> None:
        self.url = f"{server.url}/adastate/streams"

    def listed(self) -> dict[str, Any]:
        reply = requests.get(self.url, timeout=30)
        reply.raise_for_status()
        return dict(reply.json())

    def names(self) -> list[str]:
        return [stream["name"] for stream in self.listed()["streams"]]

    def act(self, what: str, **texts: str) -> dict[str, Any]:
        reply = requests.post(f"{self.url}/{what}", json=texts, timeout=60)
        reply.raise_for_status()
        return dict(reply.json())

    def status(self, what: str, body: bytes, headers: dict[str, str]) -> int:
        return requests.post(
            f"{self.url}/{what}", data=body, headers=headers, timeout=60
        ).status_code


@pytest.fixture
def shelf(server: ComfyServer) -> Shelf:
    return Shelf(server)


def test_a_stream_through_all_of_them(
    server: ComfyServer, client: ComfyClient, shelf: Shelf
) -> None:
    client.run(prompt("walk", chunks=2))
    assert shelf.listed()["folder"] == "adastate/streams"
    (walk,) = [stream for stream in shelf.listed()["streams"] if stream["name"] == "walk"]
    assert (walk["chunks"], walk["revision"], walk["problem"]) == (2, 1, "")
    assert walk["frames"] == 1 + 4 * (2 * 3 - 1)
    assert walk["size"] > 0

    assert shelf.act("fork", name="walk", new_name="walk 2")["chunks"] == 2
    client.run(prompt("walk 2"))  # both go on
    client.run(prompt("walk"))
    assert revision(server, "walk") == revision(server, "walk 2") == 2

    shelf.act("rename", name="walk 2", new_name="run")
    assert not folder_of(server, "walk 2").exists()
    assert client.run(prompt("run")).outputs["commit"]["text"][0].startswith("run: revision 3")

    slot = shelf.act("delete", name="run")["slot"]
    assert "run" not in shelf.names()
    (binned,) = [each for each in shelf.listed()["bin"] if each["slot"] == slot]
    assert (binned["name"], binned["chunks"]) == ("run", 4)
    assert shelf.act("restore", slot=slot, new_name="")["name"] == "run"
    assert revision(server, "run") == 3

    slot = shelf.act("delete", name="run")["slot"]
    assert shelf.act("purge", slot=slot) == {}
    assert slot not in [each["slot"] for each in shelf.listed()["bin"]]
    assert shelf.act("purge", slot=slot)["problem"] == "this stream is not in the bin any more"


def test_the_newest_first(client: ComfyClient, shelf: Shelf) -> None:
    for name in ("first", "second", "first"):
        client.run(prompt(name))
    assert shelf.names()[:2] == ["first", "second"]


def test_refusals_are_words(client: ComfyClient, shelf: Shelf) -> None:
    client.run(prompt("taken"))
    client.run(prompt("other"))
    refused = shelf.act("fork", name="other", new_name="taken")
    assert refused == {
        "problem": 'there is a stream "taken" already',
        "remedy": "choose another name",
    }
    for what in ("fork", "rename"):
        for name in ("../out", "a/b", ".bin", "/etc/passwd", "..", ""):
            assert set(shelf.act(what, name="other", new_name=name)) == {"problem", "remedy"}
            assert set(shelf.act(what, name=name, new_name="new")) == {"problem", "remedy"}
    for name in ("../out", ".bin", "nothing here"):
        assert set(shelf.act("delete", name=name)) == {"problem", "remedy"}
    for slot in ("../taken", "..", "", "1-0123456789abcdef"):
        assert set(shelf.act("restore", slot=slot, new_name="")) == {"problem", "remedy"}
        assert set(shelf.act("purge", slot=slot)) == {"problem", "remedy"}
    assert {"taken", "other"} <= {*shelf.names()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200),
        ({**JSON, "Sec-Fetch-Site": "same-origin"}, 200),
        ({**JSON, "Sec-Fetch-Site": "same-site"}, 403),
        ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**JSON, "Origin": "http://evil.example"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_pages_change_nothing(
    client: ComfyClient, shelf: Shelf, headers: dict[str, str], status: int
) -> None:
    client.run(prompt("mine"))
    assert shelf.status("delete", json.dumps({"name": "mine"}).encode(), headers) == status
    assert ("mine" in shelf.names()) == (status != 200)


def test_an_origin_is_the_host_with_its_port(server: ComfyServer, shelf: Shelf) -> None:
    body = json.dumps({"name": "nothing"}).encode()
    assert shelf.status("delete", body, {**JSON, "Origin": server.url}) == 200
    elsewhere = f"http://127.0.0.1:{server.port + 1}"
    assert shelf.status("delete", body, {**JSON, "Origin": elsewhere}) == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"nonsense", 400),
        (b"{}", 400),
        (b'{"name": 3}', 400),
        (b'{"name": ["mine"]}', 400),
        (b"[" * 60_000, 400),
        (b'{"name": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_other_bodies_are_refused(shelf: Shelf, body: bytes, status: int) -> None:
    assert shelf.status("delete", body, JSON) == status


def test_a_link_in_the_folder_leads_nowhere(
    server: ComfyServer, client: ComfyClient, shelf: Shelf, tmp_path: Path
) -> None:
    client.run(prompt("real"))
    (tmp_path / "outside").mkdir()
    folder_of(server, "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    try:
        assert "link" not in shelf.names()
        for what, more in (
            ("delete", {}),
            ("rename", {"new_name": "x"}),
            ("fork", {"new_name": "x"}),
        ):
            assert "problem" in shelf.act(what, name="link", **more)
        assert (tmp_path / "outside").is_dir()
    finally:
        folder_of(server, "link").unlink()


def test_renamed_while_a_prompt_continues_it(
    server: ComfyServer, client: ComfyClient, shelf: Shelf
) -> None:
    client.run(prompt("story"))
    graph = prompt("story", chunks=12)
    failed: list[str] = []

    def run() -> None:
        try:
            client.run(graph)
        except PromptError as error:
            failed.append(str(error))

    running = threading.Thread(target=run)
    running.start()
    while not requests.get(f"{server.url}/queue", timeout=30).json()["queue_running"]:
        pass
    shelf.act("rename", name="story", new_name="tale")
    running.join()
    kept = list(folder_of(server, "story").parent.glob("story.refused_*"))
    if failed:  # it had been opened before
        assert "Load State" in failed[0]
        assert len(kept) == 1
    assert revision(server, "tale") == 1
    assert not folder_of(server, "tale").is_symlink()
    client.run(prompt("tale"))
    assert revision(server, "tale") == 2
