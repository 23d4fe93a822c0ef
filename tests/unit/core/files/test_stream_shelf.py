"""Forking and renaming named streams, with whatever may come in between."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from adastate_core.errors import AdaStateError, ConfigError, StateFileError, StateMismatchError
from adastate_core.files import stream_shelf
from adastate_core.files.atomic import locked
from adastate_core.files.named_stream import LOCK, commit_or_keep, commit_stream, open_stream
from adastate_core.files.state_file import load_state
from adastate_core.files.stream_card import THUMBNAIL
from adastate_core.files.stream_shelf import fork_stream, list_streams, rename_stream
from tests.support.named_streams import NAME, files_of, in_child, relay, stopping, text_of
from tests.support.reference_host import Harness

HOSTILE = (
    "../out",
    "a/b",
    "a\\b",
    "",
    ".bin",
    "..",
    "con",
    "x\x00y",
    "/etc",
    " x",
    "x.",
    "a" * 101,
)


def names(root: Path) -> list[str]:
    return sorted(card.name for card in list_streams(root))


def test_a_fork_goes_on_by_itself(root: Path) -> None:
    (root / NAME / THUMBNAIL).write_bytes(b"moving")
    before = files_of(root / NAME)
    card = fork_stream(root, NAME, "other walk")
    assert (card.name, card.chunks, card.revision) == ("other walk", 3, 3)
    assert files_of(root / NAME) == before
    first, second = (open_stream(root, n, Harness().fresh) for n in (NAME, "other walk"))
    assert text_of(first) == text_of(second)
    assert first.origin is not None
    assert second.origin is not None
    assert first.origin.stream != second.origin.stream
    commit_stream(root, Harness().step(second, 2))
    assert files_of(root / NAME) == before
    commit_stream(root, Harness().step(first, 1))
    assert open_stream(root, "other walk", Harness().fresh).chunk_index == 5
    assert open_stream(root, NAME, Harness().fresh).chunk_index == 4
    assert (root / "other walk" / THUMBNAIL).read_bytes() == b"moving"


def test_a_fork_leaves_out_what_does_not_count(root: Path) -> None:
    folder = root / NAME
    for path in (*folder.glob("segment.*"), *folder.glob("log.*")):
        path.write_bytes(path.read_bytes() + b"half a commit")
    (folder / "notes.txt").write_text("mine")
    fork_stream(root, NAME, "copy")
    kinds = sorted(path.name.split(".")[0] for path in (root / "copy").iterdir())
    assert kinds == ["log", "manifest", "segment"]
    assert open_stream(root, "copy", Harness().fresh).chunk_index == 3


def test_a_damaged_log_is_not_forked(root: Path) -> None:
    log = next((root / NAME).glob("log.*"))
    log.write_bytes(log.read_bytes()[::-1])
    with pytest.raises(StateFileError, match="differs from its digest"):
        fork_stream(root, NAME, "copy")
    assert names(root) == [NAME]
    assert not list(root.glob(".fork*"))


def test_a_renamed_stream_goes_on(root: Path) -> None:
    text = text_of(open_stream(root, NAME, Harness().fresh))
    assert rename_stream(root, NAME, "run").name == "run"
    assert names(root) == ["run"]
    state = open_stream(root, "run", Harness().fresh)
    assert text_of(state) == text
    assert commit_stream(root, Harness().step(state, 1)).chunk_index == 4


def test_what_was_opened_before_a_rename_is_refused_and_kept(root: Path, tmp_path: Path) -> None:
    state = Harness().step(open_stream(root, NAME, Harness().fresh), 2)
    rename_stream(root, NAME, "run")
    with pytest.raises(StateMismatchError, match=r"has gone since|no stream any more") as refused:
        commit_or_keep(root, state, tmp_path)
    (kept,) = root.glob("*.refused_*")
    assert str(kept) in str(refused.value)
    assert text_of(load_state(kept)) == text_of(state)
    assert names(root) == ["run"]
    assert open_stream(root, "run", Harness().fresh).chunk_index == 3


def test_a_commit_that_waits_for_the_lock_of_a_rename_is_refused(root: Path) -> None:
    state = Harness().step(open_stream(root, NAME, Harness().fresh), 1)
    reading, writing = os.pipe()

    def commit() -> None:
        os.close(writing)
        os.read(reading, 1)  # the lock is held by now
        with pytest.raises(StateMismatchError):
            commit_stream(root, state)

    child = os.fork()
    if child == 0:
        try:
            commit()
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(reading)
    with locked(root / NAME / LOCK):
        os.close(writing)
        time.sleep(0.3)  # it waits now
        os.rename(root / NAME, root / "run")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert open_stream(root, "run", Harness().fresh).chunk_index == 3
    assert not (root / NAME).exists()


def test_a_name_that_is_taken_is_refused(root: Path) -> None:
    (root / "empty").mkdir()
    (root / "file").write_text("")
    (root / "link").symlink_to(root / "nowhere")
    before = files_of(root / NAME)
    for act in (fork_stream, rename_stream):
        for name in (NAME, "empty", "file", "link"):
            with pytest.raises(ConfigError, match=f'There is a stream "{name}" already'):
                act(root, NAME, name)
    assert files_of(root / NAME).keys() - before.keys() == set()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_lead_elsewhere_are_refused(root: Path, tmp_path: Path, name: str) -> None:
    before = [*tmp_path.rglob("*")]
    for act in (fork_stream, rename_stream):
        with pytest.raises(ConfigError):
            act(root, NAME, name)
        with pytest.raises(ConfigError):
            act(root, name, "new")
    new = {*tmp_path.rglob("*")} - {*before}
    assert new <= {root / stream_shelf.SHELF_LOCK}


def test_links_are_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(root / NAME, outside)
    before = files_of(outside)
    (root / "out").symlink_to(outside, target_is_directory=True)
    (root / "in").symlink_to(root / NAME, target_is_directory=True)
    (root / "broken").symlink_to(root / "nowhere")
    assert names(root) == [NAME]
    for act in (fork_stream, rename_stream):
        for name in ("out", "in", "broken"):
            with pytest.raises(StateFileError, match="link"):
                act(root, name, "new")
    assert files_of(outside) == before
    lock = root / NAME / LOCK
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "elsewhere")
    for act in (fork_stream, rename_stream):
        with pytest.raises(StateFileError):
            act(root, NAME, "new")
    assert names(root) == [NAME]


def test_a_stream_that_is_written_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_shelf, "PATIENCE", 0.1)
    with locked(root / NAME / LOCK):
        for act in (fork_stream, rename_stream):
            with pytest.raises(StateFileError, match=r"is being written right now\. Try again"):
                act(root, NAME, "new")
    assert names(root) == [NAME]


@pytest.mark.parametrize("function", ["fsync", "replace", "rename", "mkdir"])
def test_a_full_disk_leaves_all_as_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    before = files_of(root / NAME)
    for calls in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, stopping(getattr(os, function), calls, full))
            try:
                fork_stream(root, NAME, "copy")
            except AdaStateError as error:
                assert "No space left" in str(error)  # noqa: PT017
                assert names(root) == [NAME]
            else:
                assert open_stream(root, "copy", Harness().fresh).chunk_index == 3
                shutil.rmtree(root / "copy")
        assert not list(root.glob(".fork*"))
        assert files_of(root / NAME) == {**before, LOCK: b""}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
@pytest.mark.parametrize("function", ["mkdir", "fsync", "replace", "rename"])
@pytest.mark.parametrize("calls", range(5))
def test_killed_on_the_way_a_fork_is_there_or_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int
) -> None:
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    before = files_of(root / NAME)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, stopping(getattr(os, function), calls, kill))
        in_child(lambda: fork_stream(root, NAME, "copy"))
    assert files_of(root / NAME) == {**before, LOCK: b""} or function == "mkdir"
    if "copy" in names(root):
        assert open_stream(root, "copy", Harness().fresh).chunk_index == 3
    else:
        assert fork_stream(root, NAME, "copy").chunks == 3
    fork_stream(root, NAME, "another")
    assert not list(root.glob(".fork*"))  # and what was left is gone
    relay(root, 1, Harness().fresh)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
@pytest.mark.parametrize("renamed", [0, 1])
def test_killed_on_the_way_a_rename_is_done_or_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    function = "fsync" if renamed else "rename"
    with monkeypatch.context() as patch:
        patch.setattr(os, function, stopping(getattr(os, function), 0, kill))
        assert in_child(lambda: rename_stream(root, NAME, "run")) == -signal.SIGKILL
    assert names(root) == ["run" if renamed else NAME]
    assert open_stream(root, names(root)[0], Harness().fresh).chunk_index == 3
