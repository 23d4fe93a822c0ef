"""State files: whole, checked, and never half a stream."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adastate_core.anchors.presets import preset_config
from adastate_core.config import StreamConfig
from adastate_core.errors import StateFileError
from adastate_core.files.state_file import load_state, save_state
from adastate_core.stream.state import StreamState
from tests.support.reference_host import Harness


@pytest.fixture
def stream_of_events() -> tuple[Harness, StreamState]:
    harness = Harness()
    state = harness.step(harness.fresh, 2).reset("anchor").hold_anchor(1)
    state = harness.step(state, 1, prompt=1).flush(1)
    clip = torch.randn((1, 4, 3, 2, 3), generator=torch.Generator().manual_seed(0))
    return harness, harness.step(state.reset("window", clip), 1, prompt=2)


def test_save_load_continue_equals_the_uninterrupted_run(
    stream_of_events: tuple[Harness, StreamState], tmp_path: Path
) -> None:
    harness, state = stream_of_events
    save_state(state, tmp_path / "a.adastate.safetensors")
    loaded = load_state(tmp_path / "a.adastate.safetensors")
    expected = harness.step(state, 2)
    continued = Harness().step(loaded, 2)
    assert torch.equal(expected.content(), continued.content())
    assert loaded.fingerprint == state.fingerprint
    assert [type(e) for e in loaded.events] == [type(e) for e in state.events]


def test_a_file_says_options_that_came_later_only_where_they_are_used(tmp_path: Path) -> None:
    path, config = tmp_path / "a.adastate.safetensors", preset_config("raven")
    for options, said in ((config, True), (StreamConfig(), False)):
        harness = Harness(options)
        save_state(harness.step(harness.fresh, 2), path)
        written = path.read_bytes()
        for name in (b"text_sees", b"commit_sigma", b"anchor_sound"):
            assert (name in written) == said
        loaded = load_state(path)
        assert [chunk.config for chunk in loaded.chunks] == [options] * 2
        state = harness.step(harness.step(harness.fresh, 2), 1)
        assert torch.equal(Harness(options).step(loaded, 1).content(), state.content())


def test_a_fresh_stream_can_be_saved(tmp_path: Path) -> None:
    save_state(Harness().fresh, tmp_path / "a")
    assert load_state(tmp_path / "a") == Harness().fresh


def test_keys_are_readable(stream_of_events: tuple[Harness, StreamState], tmp_path: Path) -> None:
    from safetensors import safe_open

    save_state(stream_of_events[1], tmp_path / "a")
    with safe_open(tmp_path / "a", framework="pt") as file:
        keys = set(file.keys())
    assert {"content.00000", "state.00003", "root.00006.content"} <= keys


def test_the_header_holds_what_the_page_opens_and_no_more(tmp_path: Path) -> None:
    from safetensors import safe_open

    state, page = Harness().fresh, {"workflow": '{"nodes": []}', "prompt": "{}"}
    save_state(state, tmp_path / "a", {**page, "adastate": "x", "sha256": "y", "other": "z"})
    save_state(state, tmp_path / "b")
    with safe_open(tmp_path / "a", framework="pt") as file:
        found = file.metadata()
    with safe_open(tmp_path / "b", framework="pt") as file:
        assert found == {**file.metadata(), **page}
    assert load_state(tmp_path / "a") == state


def test_every_truncation_is_refused(
    stream_of_events: tuple[Harness, StreamState], tmp_path: Path
) -> None:
    save_state(stream_of_events[1], tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for percent in range(100):
        (tmp_path / "cut").write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(StateFileError, match=r"^State file cut is damaged"):
            load_state(tmp_path / "cut")


def test_flipped_bytes_are_noticed(
    stream_of_events: tuple[Harness, StreamState], tmp_path: Path
) -> None:
    save_state(stream_of_events[1], tmp_path / "whole")
    data = bytearray((tmp_path / "whole").read_bytes())
    source = torch.Generator().manual_seed(0)
    for position in torch.randint(len(data), (500,), generator=source).tolist():
        damaged = bytearray(data)
        damaged[position] ^= 0x15
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(
            StateFileError,
            match=r"^State file bad (is damaged|cannot be read|was written|was not written)",
        ):
            load_state(tmp_path / "bad")


def test_foreign_and_newer_files_are_named(
    stream_of_events: tuple[Harness, StreamState], tmp_path: Path
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(
        StateFileError, match=r"was not written by Save State. Choose another file on Load State"
    ):
        load_state(tmp_path / "foreign")
    header = json.dumps({"format": "adastate.stream", "version": 99})
    digest = hashlib.sha256(header.encode()).hexdigest()
    metadata = {"adastate": header, "sha256": digest}
    save_file({"x": torch.zeros(1)}, tmp_path / "newer", metadata=metadata)
    with pytest.raises(StateFileError, match=r"format version 99.*Update AdaState"):
        load_state(tmp_path / "newer")
    with pytest.raises(StateFileError, match=r"^State file gone is not there\."):
        load_state(tmp_path / "gone")


def test_a_failed_write_leaves_the_old_file(
    stream_of_events: tuple[Harness, StreamState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    save_state(Harness().fresh, path)
    old = path.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StateFileError, match="No space left"):
        save_state(stream_of_events[1], path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
