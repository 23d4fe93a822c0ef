"""The panel of a run: its events in order, its files, and what it may not do to a stream."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN

WORKFLOW = "0b5d3f62"


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, size=SMALL)


class Prompt:
    """A prompt as it runs: nodes by id, and the node that each is shown as."""

    def __init__(self, nodes: dict[str, Any], shown: dict[str, str] | None = None) -> None:
        self.nodes, self.shown = nodes, shown or {}

    def get_node(self, node_id: str) -> Any:
        return self.nodes[node_id]

    def get_display_node_id(self, node_id: str) -> str:
        return self.shown.get(node_id, node_id)


NODES: dict[str, Any] = {
    "text": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red\ncircle", "clip": ["c", 0]}},
    "mix": {
        "class_type": "ConditioningAverage",
        "inputs": {
            "conditioning_to": ["text", 0],
            "conditioning_from": ["other", 0],
            "conditioning_to_strength": 0.5,
        },
    },
    "7": {"class_type": "AdaStateStream", "inputs": {"positive": ["text", 0]}},
    "8": {"class_type": "AdaStateStream", "inputs": {"positive": ["mix", 0]}},
    "9": {"class_type": "AdaStateStream", "inputs": {}},
}


@pytest.fixture
def place(harness: NodeHarness) -> Iterator[Any]:
    """Return a function that says which node runs next, of which run."""
    from comfy_api.latest import io as comfy_io
    from comfy_execution.utils import CurrentNodeContext

    contexts: list[Any] = []

    def at(node: str, run: str = "run1", shown: dict[str, str] | None = None) -> None:
        while contexts:
            contexts.pop().__exit__(None, None, None)
        contexts.append(CurrentNodeContext(run, node))
        contexts[-1].__enter__()
        harness.hidden = {
            comfy_io.Hidden.unique_id: node,
            comfy_io.Hidden.dynprompt: Prompt(NODES, shown),
            comfy_io.Hidden.extra_pnginfo: {"workflow": {"id": WORKFLOW}},
        }

    yield at
    harness.hidden = {}
    while contexts:
        contexts.pop().__exit__(None, None, None)


@pytest.fixture
def events(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the panel events that the server sends, as they come."""
    from server import PromptServer

    sent: list[dict[str, Any]] = []

    def send(event: str, data: Any, sid: str | None = None) -> None:
        if event == "adastate.panel":
            sent.append(data)

    monkeypatch.setattr(PromptServer.instance, "send_sync", send)
    return sent


def tile(base_dir: Path, folder: str, name: str) -> Image.Image:
    return Image.open(io.BytesIO((base_dir / "temp" / folder / name).read_bytes()))


def test_events_come_in_order_and_name_their_files(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], base_dir: Path
) -> None:
    place("7")
    state, _ = harness.step(harness.fresh(), 2)
    kinds = [event["what"] for event in events if event["what"] != "status"]
    assert kinds == ["begin", "chunk", "chunk", "end"]
    assert {(e["workflow"], e["node"], e["run"]) for e in events} == {(WORKFLOW, "7", "run1")}
    begin = events[0]["panel"]
    assert begin["state"] == "running"
    assert (begin["chunks_wanted"], begin["steps"]) == (2, 2)
    assert (begin["width"], begin["height"]) == (SMALL[1] * 8, SMALL[0] * 8)
    first, second = (event["chunk"] for event in events if event["what"] == "chunk")
    assert [first["latents"], second["latents"]] == [c.latents for c in state.chunks]
    assert (first["frames"], second["frames"]) == (9, 12)
    assert second["start"] == pytest.approx(first["seconds"]) == pytest.approx(9 / 16)
    assert first["prompt"] == "a red circle"
    assert first["drift"] == 0.0 < second["motion"]
    for entry in (first, second):
        moving = tile(base_dir, begin["folder"], entry["tile"])
        assert (moving.format, moving.n_frames) == ("WEBP", entry["tile_frames"]) == ("WEBP", 3)
        assert moving.info["loop"] == 0
        assert tile(base_dir, begin["folder"], entry["hidden"]).size == SMALL[::-1]
    assert events[-1]["text"] == "2 chunks = 21 frames, 1.3 s"
    status = [event["status"]["text"] for event in events if event["what"] == "status"]
    assert any(text.startswith("chunk 1 of 2 - a red circle - ") for text in status)


def test_pictures_of_an_older_run_stay_until_a_page_has_newer_ones(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], base_dir: Path
) -> None:
    """A page that was just told of the new run may still be loading what it showed before."""
    there: list[bool] = []

    def look(event: str, data: Any, sid: str | None = None) -> None:
        if event == "adastate.panel" and data["what"] != "status":
            there.append(older.exists())

    place("7")
    harness.step(harness.fresh(), 1)
    panel, chunk = events[0]["panel"], next(e["chunk"] for e in events if e["what"] == "chunk")
    older = base_dir / "temp" / panel["folder"] / chunk["tile"]
    place("7", "run2")
    events.clear()
    with pytest.MonkeyPatch.context() as patch:
        from server import PromptServer

        patch.setattr(PromptServer.instance, "send_sync", look)
        harness.step(harness.fresh(), 2, seed=1)
    assert there == [True, True, False, False]
    assert not older.exists()


@pytest.mark.parametrize(("seed", "told"), [(1 << 53, 1 << 53), ((1 << 64) - 1, f"{2**64 - 1}")])
def test_the_page_gets_every_digit_of_a_seed(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], seed: int, told: object
) -> None:
    place("7")
    state, _ = harness.step(harness.fresh(), 1, seed=seed)
    assert [e["chunk"]["seed"] for e in events if e["what"] == "chunk"] == [told]
    events.clear()
    place("7", "run2")
    harness.step(state, 1)  # what is kept on disk is read
    assert events[0]["panel"]["chunks"][0]["seed"] == told


def test_pictures_change_no_bit_and_a_vae_makes_moving_ones(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], vae: Any, pack: Any
) -> None:
    alone, _ = harness.step(harness.fresh(), 3)
    place("7")
    coloured, _ = harness.step(harness.fresh(), 3)
    decoded, _ = harness.step(harness.fresh(), 3, vae=vae)
    for other in (coloured, decoded):
        assert [c.latents for c in other.chunks] == [c.latents for c in alone.chunks]
        assert torch.equal(other.content(), alone.content())
    entries = [event["chunk"] for event in events if event["what"] == "chunk"]
    assert [e["source"] for e in entries] == ["latent"] * 3 + ["vae"] * 3
    assert [e["tile_frames"] for e in entries[3:]] == [9, 12, 12]


def test_a_rewind_drops_exactly_what_is_no_longer_part_of_the_stream(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], base_dir: Path
) -> None:
    place("7")
    state, _ = harness.step(harness.fresh(), 3)
    folder = base_dir / "temp" / events[0]["panel"]["folder"]
    before = {path.name for path in folder.glob("*.webp")}
    assert len(before) == 6
    (back,) = harness.run("AdaStateRewind", state, 0)
    events.clear()
    place("7", "run2")
    harness.step(back, 1, seed=5)
    kept = events[0]["panel"]["chunks"]
    assert [chunk["latents"] for chunk in kept] == [state.chunks[0].latents]
    assert (events[0]["run"], events[0]["panel"]["first_chunk"]) == ("run2", 1)
    left = {path.name for path in folder.glob("*.webp")}
    assert len(left & before) == 2
    assert len(left) == 4
    (made,) = (event["chunk"] for event in events if event["what"] == "chunk")
    assert made["start"] == kept[0]["seconds"]


def test_parts_of_a_node_share_its_panel(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]], pack: Any
) -> None:
    timeline = importlib.import_module(f"{pack.__name__}.adastate_comfy.timeline_graph")
    pace = importlib.import_module(f"{pack.__name__}.adastate_core.stream.timeline").Pace(3, 4, 8.0)
    holder = harness.nodes["AdaStateStream"]
    state = harness.fresh()
    place("3")
    hidden = holder.PREPARE_CLASS_CLONE({"hidden_inputs": harness.hidden}).hidden
    timeline.open_timeline(hidden, state, pace, 2)
    for part in ("7", "8"):
        place(part, shown={part: "3"})
        state, _ = harness.step(state, 1)
    assert {(event["node"], event["run"]) for event in events} == {("3", "run1")}
    kinds = [event["what"] for event in events if event["what"] != "status"]
    assert kinds.count("end") == 1
    assert kinds[-1] == "end"
    chunks = [event["chunk"] for event in events if event["what"] == "chunk"]
    assert [chunk["index"] for chunk in chunks] == [0, 1]
    assert [chunk["transition"] for chunk in chunks] == ["swap", "blend"]
    assert chunks[0]["seconds"] == pytest.approx(9 / 8)  # the timeline's node has the fps
    begins = [event["panel"] for event in events if event["what"] == "begin"]
    assert {panel["chunks_wanted"] for panel in begins} == {2}


def test_a_full_disk_costs_the_pictures_and_nothing_else(
    harness: NodeHarness,
    place: Any,
    events: list[dict[str, Any]],
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = importlib.import_module(f"{pack.__name__}.adastate_comfy.panel.panel_store").PanelStore
    alone, _ = harness.step(harness.fresh(), 2)

    def full(self: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_made", full)
    place("9")
    made, _ = harness.step(harness.fresh(), 2)
    assert torch.equal(made.content(), alone.content())
    chunks = [event["chunk"] for event in events if event["what"] == "chunk"]
    assert [chunk["tile"] for chunk in chunks] == [None, None]
    assert events[-1]["state"] == "done"
    assert sum("the panel lacks" in record.message for record in caplog.records) == 1


def test_a_failure_and_a_cancel_are_said(
    harness: NodeHarness,
    place: Any,
    events: list[dict[str, Any]],
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import comfy.model_management

    place("7")

    def break_down(*_: Any) -> None:
        raise RuntimeError("out of luck")

    run = importlib.import_module(f"{pack.__name__}.adastate_comfy.sampling.stream_run")
    with monkeypatch.context() as broken:
        broken.setattr(run, "stream_chunks", break_down)
        with pytest.raises(RuntimeError):
            harness.step(harness.fresh(), 1)
    assert (events[-1]["state"], events[-1]["text"]) == ("failed", "out of luck")
    events.clear()

    def cancelled() -> None:
        raise comfy.model_management.InterruptProcessingException

    name = "throw_exception_if_processing_interrupted"
    monkeypatch.setattr(comfy.model_management, name, cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        harness.step(harness.fresh(), 1)
    assert (events[-1]["what"], events[-1]["state"]) == ("end", "stopped")


def test_what_is_refused_is_said_and_leaves_what_was_made(
    harness: NodeHarness, place: Any, events: list[dict[str, Any]]
) -> None:
    place("7", run="good")
    harness.step(harness.fresh(), 2)
    events.clear()
    place("7", run="refused")
    with pytest.raises(ValueError, match="needs a negative prompt"):
        harness.step(harness.fresh(), 1, cfg=2.0)
    (event,) = events
    panel = event["panel"]
    assert (event["what"], event["run"], panel["state"]) == ("begin", "refused", "failed")
    assert "needs a negative prompt" in panel["text"]
    assert [chunk["index"] for chunk in panel["chunks"]] == [0, 1]


def test_a_chunk_writes_its_own_line_however_many_came_before(
    pack: Any, events: list[dict[str, Any]], base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = f"{pack.__name__}.adastate_comfy.panel"
    parts = {n: importlib.import_module(f"{panel}.{n}") for n in ("panel_document", "panel_feed")}
    pace = importlib.import_module(f"{pack.__name__}.adastate_core.stream.pace").Pace(3, 4, 16.0)
    feed = parts["panel_feed"].PanelFeed("w", "many")
    plan = parts["panel_document"].RunPlan(0, 5000, pace)
    feed.begin("run1", plan, "", set())
    written: list[int] = []
    file = base_dir / "temp" / feed.document()["folder"] / "chunks.jsonl"
    monkeypatch.setattr(feed._store, "rewrite", pytest.fail)
    monkeypatch.setattr(feed._store, "write_head", lambda head: written.append(len(str(head))))
    for index in range(2000):
        entry = parts["panel_document"].ChunkEntry(
            index, f"{index:064}", 0.0, 0.75, 12, "a prompt", 0, "swap", 1.0
        )
        feed.add(entry, None)
    feed.end("done", "")
    assert len(file.read_text().splitlines()) == 2000
    assert len(written) == 1
    assert written[0] < 2000
    sizes = [len(str(event)) for event in events if event["what"] == "chunk"]
    assert max(sizes) - min(sizes) < 20
    assert len(feed.document()["chunks"]) == 2000


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"text": " two\n words "}, "two words"),
        ({"text": ["other", 0]}, "linked"),
        ({"conditioning": ["plain", 0]}, "plain text"),
        ({"positive": ["plain", 0], "negative": ["other", 0]}, "plain text"),
        ({"seed": 3}, ""),
        ({"text": ["gone", 0]}, ""),
        ({"conditioning": ["first", 0]}, ""),  # a circle, which no prompt has
    ],
)
def test_a_prompt_is_traced_to_its_text(pack: Any, inputs: dict[str, Any], text: str) -> None:
    trace = importlib.import_module(f"{pack.__name__}.adastate_comfy.panel.prompt_text")
    nodes = {
        "me": {"class_type": "AdaStateStream", "inputs": {"positive": ["first", 0]}},
        "first": {"class_type": "Any", "inputs": inputs},
        "plain": {"class_type": "CLIPTextEncode", "inputs": {"text": "plain text"}},
        "other": {"class_type": "PrimitiveString", "inputs": {"value": "linked"}},
    }
    assert trace.prompt_behind(Prompt(nodes), "me").text == text


@pytest.mark.parametrize("width", [832, 1280, 2048])
def test_large_pictures_get_small_without_false_stripes(pack: Any, width: int) -> None:
    small = importlib.import_module(f"{pack.__name__}.adastate_comfy.panel.pictures").small_pixels
    images = torch.zeros((2, width // 2, width, 3))
    images[:, :, ::2] = 1.0
    images[1] = torch.linspace(0.0, 1.0, width)[:, None]
    stripes, ramp = small(images).astype(float)
    assert stripes.shape == (256, 512, 3)
    assert abs(stripes.mean() - 127.5) < 1.0
    if width == 2048:
        assert stripes.std() < 1.0
    assert abs(ramp[0, :, 0] - [255 * (i + 0.5) / 512 for i in range(512)]).max() < 1.0
