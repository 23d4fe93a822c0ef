"""State files and named streams of format version 1 open as what they were, and go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adastate_core.errors import StateFileError
from adastate_core.files.named_stream import commit_stream, open_stream
from adastate_core.files.state_file import load_state, save_state
from tests.support.described import described
from tests.support.reference_host import Harness

DATA = Path(__file__).parents[3] / "data" / "v1"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
FILES = sorted(path.name for path in DATA.glob("*.safetensors"))
STREAMS = sorted(path.name for path in (DATA / "streams").iterdir())


def test_every_file_is_looked_at() -> None:
    assert {*FILES, *(f"streams/{name}" for name in STREAMS)} == set(EXPECTED)


@pytest.mark.parametrize("name", FILES)
def test_state_files_open_and_go_on(tmp_path: Path, name: str) -> None:
    state = load_state(DATA / name)
    assert same(described(state), EXPECTED[name])
    if state.fingerprint is None or state.fingerprint.family == "reference":
        state = Harness().step(state, 2)
    save_state(state, tmp_path / name)
    assert described(load_state(tmp_path / name)) == described(state)


@pytest.mark.parametrize("name", STREAMS)
def test_named_streams_open_and_go_on(tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(DATA / "streams", tmp_path / "streams"))
    harness = Harness()
    state = open_stream(root, name, harness.fresh)
    assert state.origin is not None
    revision = state.origin.revision
    assert same({**described(state), "revision": revision}, EXPECTED[f"streams/{name}"])
    for more in range(1, 4):
        state = commit_stream(root, harness.step(state, 1))
        opened = open_stream(root, name, harness.fresh)
        assert described(opened) == described(state)
        assert opened.origin == state.origin
        assert opened.origin is not None
        assert opened.origin.revision == revision + more


def same(values: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Compare as JSON: a digest, a number or a name that differs is another state."""
    return bool(json.loads(json.dumps(values)) == expected)


def copied(tmp_path: Path) -> Path:
    root = Path(shutil.copytree(DATA / "streams", tmp_path / "streams"))
    return root / "walk"


def test_a_segment_with_other_tensors_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    first, second, *_ = sorted(folder.glob("segment.*"))
    exchanged = first.read_bytes(), second.read_bytes()
    size = max(map(len, exchanged))
    first.write_bytes(exchanged[1].ljust(size, b"\0"))
    with pytest.raises(StateFileError, match='The stream "walk" is damaged: '):
        open_stream(folder.parent, folder.name, Harness().fresh)


def test_flipped_bytes_of_a_tensor_are_noticed(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    first = min(folder.glob("segment.*"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    with pytest.raises(StateFileError, match=f"{first.name} that differs from its digest"):
        open_stream(folder.parent, folder.name, Harness().fresh)


def test_the_next_commit_writes_it_in_the_form_of_today(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    harness = Harness()
    commit_stream(folder.parent, harness.step(open_stream(folder.parent, "walk", harness.fresh)))
    assert json.loads((folder / "manifest.json").read_text())["version"] == 2
    assert not list(folder.glob("*.safetensors"))
