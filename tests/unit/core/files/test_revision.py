"""Revisions read from a folder: whole, or from one that is known and what came after it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from adastate_core.errors import StateFileError
from adastate_core.files.commit import write_revision
from adastate_core.files.manifest import Manifest, read_manifest
from adastate_core.files.names import damaged
from adastate_core.files.revision import home_of, read_revision
from adastate_core.files.schema import Place
from adastate_core.stream.state import StreamState
from tests.support.described import described
from tests.support.reference_host import Harness

STREAM = "1" * 32


def refuse(seen: str) -> StateFileError:
    return damaged("walk", seen)


def manifest_of(folder: Path) -> Manifest:
    found = read_manifest(folder)
    assert isinstance(found, Manifest)
    return found


@pytest.fixture(scope="module")
def states() -> list[StreamState]:
    harness = Harness()
    first = harness.step(harness.fresh, 2)
    second = harness.step(first.flush(1), prompt=1)
    return [first, second, harness.step(second.rewind(1), prompt=2)]


def commit(folder: Path, states: list[StreamState]) -> None:
    """Write the revisions, and let go of them."""
    base = None
    for number, state in enumerate(states, 1):
        base = write_revision(folder, STREAM, number, state, base)
    del base
    gc.collect()


def test_a_revision_is_read_from_its_first_line_on(
    tmp_path: Path, states: list[StreamState]
) -> None:
    commit(tmp_path, states)
    found = read_revision(tmp_path, manifest_of(tmp_path), refuse)
    assert described(found.state) == described(states[-1])
    assert found.state.origin is None
    assert found.manifest == manifest_of(tmp_path)
    homes = [home for home in found.homes if home is not None]
    assert len(homes) == len(states[-1].kept_chunks())


def test_what_was_read_and_what_was_written_know_the_same(
    tmp_path: Path, states: list[StreamState]
) -> None:
    written = write_revision(tmp_path, STREAM, 1, states[0], None)
    homes, shelves = list(written.homes), dict(written.shelves)
    del written
    gc.collect()
    found = read_revision(tmp_path, manifest_of(tmp_path), refuse)
    assert (found.homes, dict(found.shelves)) == (homes, shelves)


def test_a_revision_that_is_held_is_not_read_again(
    tmp_path: Path, states: list[StreamState]
) -> None:
    commit(tmp_path, states)
    manifest = manifest_of(tmp_path)
    held = read_revision(tmp_path, manifest, refuse)
    for path in tmp_path.iterdir():
        path.unlink()
    assert read_revision(tmp_path, manifest, refuse) is held
    del held
    gc.collect()
    with pytest.raises(FileNotFoundError):
        read_revision(tmp_path, manifest, refuse)


def test_after_a_known_revision_only_what_is_new_is_read(
    tmp_path: Path, states: list[StreamState]
) -> None:
    commit(tmp_path, states[:1])
    known = read_revision(tmp_path, manifest_of(tmp_path), refuse)
    state = Harness().step(known.state)
    written = write_revision(tmp_path, STREAM, 2, state, known)
    del written
    gc.collect()
    found = read_revision(tmp_path, manifest_of(tmp_path), refuse)
    assert found is not known
    assert described(found.state) == described(state)
    assert found.state.events[0] is known.state.events[0]


def test_a_log_that_is_another_one_is_refused(tmp_path: Path, states: list[StreamState]) -> None:
    commit(tmp_path, states)
    manifest = manifest_of(tmp_path)
    log = tmp_path / manifest.log.file
    log.write_bytes(log.read_bytes()[::-1])
    with pytest.raises(StateFileError, match="differs from its digest"):
        read_revision(tmp_path, manifest, refuse)


def test_a_log_that_ends_elsewhere_is_refused(tmp_path: Path, states: list[StreamState]) -> None:
    commit(tmp_path, states)
    other = manifest_of(tmp_path).model_copy(update={"revision": 9})
    with pytest.raises(StateFileError, match="ends at another revision"):
        read_revision(tmp_path, other, refuse)


def test_a_thing_is_at_home_where_its_last_tensor_ends() -> None:
    first = Place(segment="a", at=0, dtype="F32", shape=(2,), digest="0" * 64)
    last = first.model_copy(update={"at": 8})
    assert home_of([first, last]) == ("a", 16)
    assert home_of([]) is None
