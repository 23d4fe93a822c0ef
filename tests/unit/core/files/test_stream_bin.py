"""The bin of the streams folder."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from adastate_core.errors import AdaStateError, ConfigError, StateFileError, StateMismatchError
from adastate_core.files import stream_shelf
from adastate_core.files.atomic import locked
from adastate_core.files.named_stream import LOCK, commit_or_keep, open_stream
from adastate_core.files.stream_bin import (
    BIN,
    delete_stream,
    list_bin,
    purge_stream,
    restore_stream,
)
from adastate_core.files.stream_shelf import list_streams
from tests.support.named_streams import NAME, files_of, in_child, relay, stopping, text_of
from tests.support.reference_host import Harness


def names(root: Path) -> list[str]:
    return sorted(card.name for card in list_streams(root))


def test_deleted_and_restored_it_is_the_same(root: Path) -> None:
    before = text_of(open_stream(root, NAME, Harness().fresh))
    slot = delete_stream(root, NAME)
    assert names(root) == []
    (binned,) = list_bin(root)
    assert (binned.slot, binned.card.name, binned.card.chunks) == (slot, NAME, 3)
    assert binned.deleted > 1e9
    assert restore_stream(root, slot).name == NAME
    assert list_bin(root) == []
    assert not list((root / BIN).iterdir())
    assert text_of(open_stream(root, NAME, Harness().fresh)) == before


def test_several_of_one_name_are_kept_apart(root: Path) -> None:
    slots = [delete_stream(root, NAME)]
    for commits in (1, 2):
        relay(root, commits, Harness().fresh)
        slots.append(delete_stream(root, NAME))
    assert sorted(each.slot for each in list_bin(root)) == sorted(slots)
    restore_stream(root, slots[1])
    with pytest.raises(ConfigError, match=r"already\. Choose another name"):
        restore_stream(root, slots[2])
    assert restore_stream(root, slots[2], "walk 2").chunks == 2
    purge_stream(root, slots[0])
    assert list_bin(root) == []
    assert names(root) == ["walk", "walk 2"]


def test_a_commit_to_a_deleted_stream_is_refused_and_kept(root: Path, tmp_path: Path) -> None:
    state = Harness().step(open_stream(root, NAME, Harness().fresh), 1)
    slot = delete_stream(root, NAME)
    with pytest.raises(StateMismatchError) as refused:
        commit_or_keep(root, state, tmp_path)
    assert str(refused.value.seen).startswith("no stream any more")
    assert len(list(root.glob("*.refused_*"))) == 1
    restore_stream(root, slot)
    assert commit_or_keep(root, state, tmp_path).chunk_index == 4  # nothing has changed since


def test_a_damaged_stream_can_be_deleted(root: Path) -> None:
    (root / NAME / "manifest.json").write_text("{}")
    slot = delete_stream(root, NAME)
    (binned,) = list_bin(root)
    assert binned.card.problem
    purge_stream(root, slot)
    assert not list((root / BIN).iterdir())


@pytest.mark.parametrize(
    "slot",
    ["", ".", "..", "../walk", "1-0123456789abcdef", "/etc", "1-0123456789abcdef/..", None, 3],
)
def test_other_slots_are_refused(root: Path, slot: str) -> None:
    before = files_of(root / NAME)
    for act in (restore_stream, purge_stream):
        with pytest.raises(StateFileError, match="not in the bin any more"):
            act(root, slot)
    assert files_of(root / NAME) == before


@pytest.mark.parametrize("name", ["../out", "", ".bin", "..", "/etc", "nothing"])
def test_other_names_are_refused(root: Path, name: str) -> None:
    with pytest.raises(AdaStateError):
        delete_stream(root, name)
    assert names(root) == [NAME]


def test_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(root / NAME, outside / NAME)
    (root / "link").symlink_to(outside / NAME, target_is_directory=True)
    with pytest.raises(StateFileError, match="link"):
        delete_stream(root, "link")
    slot = delete_stream(root, NAME)
    forged = root / BIN / "2-0123456789abcdef"
    forged.symlink_to(outside, target_is_directory=True)
    inner = root / BIN / "3-0123456789abcdef"
    inner.mkdir()
    (inner / NAME).symlink_to(outside / NAME, target_is_directory=True)
    assert [each.slot for each in list_bin(root)] == [slot]
    for each in (forged.name, inner.name):
        for act in (restore_stream, purge_stream):
            with pytest.raises(StateFileError):
                act(root, each)
    (root / BIN / slot / NAME / "out").symlink_to(outside, target_is_directory=True)
    purge_stream(root, slot)
    assert (outside / NAME / "manifest.json").exists()


def test_a_bin_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / BIN).symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(StateFileError, match="Remove the link"):
        delete_stream(root, NAME)
    assert list_bin(root) == []
    assert names(root) == [NAME]


def test_a_stream_that_is_written_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_shelf, "PATIENCE", 0.1)
    with locked(root / NAME / LOCK), pytest.raises(StateFileError, match="being written"):
        delete_stream(root, NAME)
    assert names(root) == [NAME]
    assert not list((root / BIN).iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
@pytest.mark.parametrize("function", ["mkdir", "rename", "fsync", "rmdir"])
@pytest.mark.parametrize("calls", range(3))
def test_killed_on_the_way_a_stream_is_in_one_place(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int
) -> None:
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def act() -> None:
        restore_stream(root, delete_stream(root, NAME))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, stopping(getattr(os, function), calls, kill))
        in_child(act)
    places = [*names(root), *(each.card.name for each in list_bin(root))]
    assert places == [NAME]
    if list_bin(root):
        restore_stream(root, list_bin(root)[0].slot)
    assert open_stream(root, NAME, Harness().fresh).chunk_index == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
def test_a_purge_that_was_killed_is_finished_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / NAME, root / "other")
    slots = [delete_stream(root, name) for name in (NAME, "other")]

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", stopping(os.rmdir, 0, kill))
        assert in_child(lambda: purge_stream(root, slots[0])) == -signal.SIGKILL
    assert [each.slot for each in list_bin(root)] == [slots[1]]
    purge_stream(root, slots[1])
    assert not list((root / BIN).iterdir())
