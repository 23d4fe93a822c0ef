"""State files that were made by hand: each is refused in one sentence, or is a state as others."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.digest import text_digest
from adastate_core.errors import AdaStateError, StateFileError
from adastate_core.files.schema import EVENT_OF, ChunkModel, ConfigModel, GivenLatentsModel
from adastate_core.files.serialization import state_to_header
from adastate_core.files.state_file import load_state, save_state
from adastate_core.stream.events import ChunkEvent, Conditions
from adastate_core.stream.state import StreamState
from adastate_core.stream.summary import describe_stream
from tests.support.described import described
from tests.support.reference_host import Harness, text


@pytest.fixture(scope="module")
def state() -> StreamState:
    harness = Harness()
    clip = torch.randn((1, 4, 3, 2, 3), generator=torch.Generator().manual_seed(0))
    state = harness.step(harness.fresh.start_with(clip), 2).hold_anchor(1).flush(1)
    return harness.step(state.rewind(1).reset("anchor").recache(), 1, prompt=1)


def written(path: Path, header: str, tensors: Mapping[str, Tensor]) -> Path:
    """Write a file with right digests, whatever the header says."""
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"adastate": header, "sha256": text_digest(header)})
    return path


def refused(path: Path) -> str:
    with pytest.raises(StateFileError) as error:
        load_state(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"State file {path.name} ")
    assert len(message) < 900
    return message


def chunk(header: dict[str, Any]) -> dict[str, Any]:
    return next(entry for entry in header["entries"] if entry["kind"] == "chunk")


NAN, HUGE = float("nan"), 10**400
BAD: dict[str, Callable[[dict[str, Any]], object]] = {
    "latent_shape of text": lambda h: h.update(latent_shape=["a", "b", "c", "d"]),
    "latent_shape of three": lambda h: h.update(latent_shape=[1, 4, 2]),
    "latent_shape of 0": lambda h: h.update(latent_shape=[1, 4, 0, 3]),
    "latent_shape of floats": lambda h: h.update(latent_shape=[1.0, 4.0, 2.0, 3.0]),
    "latent_shape of others": lambda h: h.update(latent_shape=[1, 4, 3, 2]),
    "chunk_index text": lambda h: h.update(chunk_index="seven"),
    "chunk_index true": lambda h: h.update(chunk_index=True),
    "chunk_index another": lambda h: h.update(chunk_index=9),
    "chunk_index huge": lambda h: h.update(chunk_index=10**300),
    "history -3": lambda h: h.update(history_chunks=-3),
    "hold text": lambda h: h.update(hold="x"),
    "hold -2": lambda h: h.update(hold=-2),
    "no fingerprint": lambda h: h.update(fingerprint=None),
    "fingerprint text": lambda h: h.update(fingerprint="x"),
    "fingerprint with more": lambda h: h["fingerprint"].update(more=1),
    "no entries": lambda h: h.update(events=[]),
    "entries null": lambda h: h.update(events=None),
    "an entry of another kind": lambda h: chunk(h).update(kind="other"),
    "an entry twice": lambda h: h["entries"].append(chunk(h)),
    "index text": lambda h: chunk(h).update(index="a"),
    "index another": lambda h: chunk(h).update(index=1),
    "seed NaN": lambda h: chunk(h).update(seed=NAN),
    "seed huge": lambda h: chunk(h).update(seed=2**64),
    "frame -7": lambda h: chunk(h).update(frame=-7),
    "content a number": lambda h: chunk(h).update(content=5),
    "content null": lambda h: chunk(h).update(content=None),
    "content of another": lambda h: chunk(h).update(content={"tensor": "state.00000"}),
    "content that is not there": lambda h: chunk(h).update(content={"tensor": "content.00009"}),
    "held 1": lambda h: chunk(h).update(held=1),
    "config null": lambda h: chunk(h).update(config=None),
    "strength NaN": lambda h: chunk(h)["config"].update(anchor_strength=NAN),
    "strength infinite": lambda h: chunk(h)["config"].update(anchor_strength=float("inf")),
    "strength 9": lambda h: chunk(h)["config"].update(anchor_strength=9.0),
    "anchor other": lambda h: chunk(h)["config"].update(anchor="other"),
    "a flag of text": lambda h: chunk(h)["config"].update(reencode_sees_prev_state="yes"),
    "chunk_frames 5": lambda h: chunk(h)["config"].update(chunk_frames=5),
    "chunk_frames true": lambda h: chunk(h)["config"].update(chunk_frames=True),
    "an unknown option": lambda h: chunk(h)["config"].update(new=1),
    "no conditionings": lambda h: h.update(conditionings={}),
    "conditionings a list": lambda h: h.update(conditionings=[]),
    "structure no JSON": lambda h: h.update(conditionings=dict.fromkeys(h["conditionings"], "{")),
    "structure deep": lambda h: h.update(
        conditionings=dict.fromkeys(h["conditionings"], "[" * 10**5 + "]" * 10**5)
    ),
    "structure of another": lambda h: h.update(
        conditionings=dict.fromkeys(h["conditionings"], '{"$tensor": "7"}')
    ),
    "structure without name": lambda h: h.update(
        conditionings=dict.fromkeys(h["conditionings"], '{"$tensor": [0]}')
    ),
    "no digests": lambda h: h.update(digests={}),
    "a digest too few": lambda h: h["digests"].popitem(),
    "a digest of text": lambda h: h["digests"].update(dict.fromkeys(h["digests"], "x")),
    "more": lambda h: h.update(more=1),
    "version 1.0": lambda h: h.update(version=1.0),
    "version text": lambda h: h.update(version="1"),
    "version 3": lambda h: h.update(version=3),
    "version 2": lambda h: h.update(version=2),
    "version 0": lambda h: h.update(version=0),
    "format null": lambda h: h.update(format=None),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_values_are_refused(state: StreamState, tmp_path: Path, name: str) -> None:
    text, tensors = state_to_header(state)
    assert described(load_state(written(tmp_path / "good", text, tensors))) == described(state)
    header = json.loads(text)
    BAD[name](header)
    refused(written(tmp_path / "bad", json.dumps(header), tensors))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"x"',
        "{",
        "{nonsense",
        "[" * 200_000 + "]" * 200_000,
        "NaN",
        "\x00",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"format": "adastate.stream", "version": ' + "9" * 5000 + "}",
    ],
    ids=range(12),
)
def test_what_is_no_header_is_refused(state: StreamState, tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "bad", text, state_to_header(state)[1]))


def test_tensors_of_another_kind_are_refused(state: StreamState, tmp_path: Path) -> None:
    text, tensors = state_to_header(state)
    content = tensors["content.00000"]
    for wrong in (
        content.double().to(torch.int64),
        content[0],
        content[:, :, :0],
        content.transpose(3, 4),
        content.to(torch.float8_e4m3fn),
    ):
        assert "content of" in refused(
            written(tmp_path / "bad", text, {**tensors, "content.00000": wrong})
        )
    refused(written(tmp_path / "bad", text, {**tensors, "content.00009": content}))
    refused(written(tmp_path / "bad", text, {k: v for k, v in tensors.items() if k[0] != "s"}))
    refused(written(tmp_path / "bad", text, {**tensors, "content.00000": content + 1}))


def test_a_foreign_file_is_refused_unread(tmp_path: Path) -> None:
    size = 40 << 30  # sparse: it takes no room on disk
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    for metadata in ({}, {"__metadata__": {"adastate": '{"format": "adastate.stream"}'}}):
        header = json.dumps({"w": entry, **metadata}).encode()
        with (tmp_path / "foreign").open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + size)
        refused(tmp_path / "foreign")
    for junk in (
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        b"PK\3\4" * 9,
    ):
        (tmp_path / "junk").write_bytes(junk)
        refused(tmp_path / "junk")
    refused(tmp_path)
    refused(tmp_path / "missing")


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of all values below one."""
    items: Any = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(p for key, item in items for p in nodes(item, (*path, key)))]


VALUES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        5,
        -1,
        -7,
        2**31,
        2**63,
        2**64,
        10**30,
        HUGE,
        0.5,
        1.0,
        NAN,
        float("inf"),
        "",
        "x",
        "0" * 64,
        "1",
        "content.00000",
        "adaptive",
        "frozen",
        "chunk",
        "root",
        [],
        [1, 2],
        {},
        {"tensor": "state.00000"},
        {"tensor": 3},
        {"a": {"b": []}},
        "\ud800",
        "\u6c34",
    ],
)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_is_refused_or_makes_a_state(
    state: StreamState, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed"
    text, tensors = state_to_header(state)
    header = json.loads(text)
    for _ in range(data.draw(st.integers(1, 3))):
        spot = data.draw(st.sampled_from(nodes(header)[1:] or [()]))
        if not spot:
            break
        parent = header
        for key in spot[:-1]:
            parent = parent[key]
        action = data.draw(st.sampled_from(["set", "delete", "copy", "rename"]))
        if action == "delete":
            del parent[spot[-1]]
        elif action == "copy" and isinstance(parent, list):
            parent.insert(data.draw(st.integers(0, len(parent))), parent[spot[-1]])
        elif action == "rename" and isinstance(parent, dict):
            parent[data.draw(st.sampled_from(["x", "content", "kind", "0" * 32]))] = parent.pop(
                spot[-1]
            )
        else:
            parent[spot[-1]] = data.draw(VALUES)
    try:
        loaded = load_state(written(path, json.dumps(header), tensors))
    except StateFileError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    save_state(loaded, path)
    assert described(load_state(path)) == described(loaded)
    describe_stream(loaded)
    loaded.content()
    with contextlib.suppress(AdaStateError):
        Harness().step(loaded, 1)


def test_models_have_the_fields_of_what_they_stand_for() -> None:
    for kind, model in (("chunk", ChunkModel), ("root", GivenLatentsModel)):
        assert set(model.model_fields) == {"kind", *EVENT_OF[kind].__dataclass_fields__}
    assert set(ConfigModel.model_fields) == set(StreamConfig.__dataclass_fields__)


def test_a_very_long_stream_can_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness, prompt = Harness(), text(0)
    state = harness.step(harness.fresh, 1)
    last = state.last_chunk
    assert last is not None
    for short in (1 << 20, 100):
        monkeypatch.setattr("adastate_core.files.state_file._LONGEST", short)
        save_state(state, tmp_path / "a")
        loaded = load_state(tmp_path / "a")
        assert described(loaded) == described(state)
        assert torch.equal(Harness().step(loaded, 1).content(), harness.step(state, 1).content())
    data = (tmp_path / "a").read_bytes()
    assert b'\\"version\\": 2' in data  # older versions say that they have to be updated
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x15
        (tmp_path / "bad").write_bytes(damaged)
        refused(tmp_path / "bad")
    monkeypatch.undo()
    forgotten = [
        ChunkEvent(i, 2**60, prompt.digest, None, "", StreamConfig(), latents="0" * 64, frame=3 * i)
        for i in range(30_000)
    ]
    newest = ChunkEvent(
        30_000,
        0,
        prompt.digest,
        None,
        "",
        StreamConfig(),
        latents="0" * 64,
        state=last.state,
        content=last.content,
    )
    long = StreamState(
        state.latent_shape,
        state.fingerprint,
        chunk_index=30_000,
        history_chunks=1,
        events=tuple(forgotten),
    )
    long = long.append_chunk(newest, Conditions(prompt))
    save_state(long, tmp_path / "long")
    loaded = load_state(tmp_path / "long")
    assert loaded.chunk_index == 30_001
    assert torch.equal(loaded.content(), long.content())
