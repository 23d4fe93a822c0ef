"""Locks in the shared folder, as several processes hold them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm.errors import FarmError, JobError
from farm.shared_folder import SharedFolder


@pytest.fixture
def folder(tmp_path: Path) -> SharedFolder:
    folder = SharedFolder(tmp_path / "output")
    folder.prepare()
    return folder


def test_a_lock_is_held_until_every_heir_has_ended(folder: SharedFolder) -> None:
    lock = folder.hold("server")
    heir = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[lock.handle], stdin=-1)
    try:
        assert folder.is_held(lock.name)
        lock.close()  # as if the owner were killed
        assert folder.is_held(lock.name)
        assert not folder.wait_until_free(lock.name, 0.3)
        heir.send_signal(signal.SIGKILL)
        assert folder.wait_until_free(lock.name, 10)
    finally:
        heir.kill()
        heir.communicate()


def test_a_lock_that_was_released_is_free_and_gone(folder: SharedFolder) -> None:
    lock = folder.hold("farm")
    assert folder.is_held(lock.name)
    lock.release()
    lock.release()
    assert not folder.is_held(lock.name)
    assert list(folder.locks.iterdir()) == []


def test_only_old_locks_that_nobody_holds_are_removed(folder: SharedFolder) -> None:
    held, young = folder.hold("server"), folder.hold("server")
    young.close()
    dead = folder.hold("server")
    dead.close()
    for path in (held.path, dead.path):
        os.utime(path, (0, time.time() - 3600))
    folder.prepare()
    assert set(folder.locks.iterdir()) == {held.path, young.path}
    held.release()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("farm.shared_folder.fcntl.flock", refuse)
    with pytest.raises(FarmError, match=r"has no locks .* use a local disk, or NFS version 4"):
        SharedFolder(tmp_path).prepare()


def test_a_file_system_that_grants_a_lock_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.shared_folder.fcntl.flock", lambda handle, how: None)
    with pytest.raises(FarmError, match="grants one lock twice"):
        SharedFolder(tmp_path).prepare()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FarmError, match="cannot be written"):
        SharedFolder(tmp_path / "file").prepare()


def test_the_revision_of_a_stream(folder: SharedFolder) -> None:
    assert folder.revision("walk") == 0
    stream = folder.path / "adastate" / "streams" / "walk"
    stream.mkdir(parents=True)
    assert folder.revision("walk") == 0
    (stream / "manifest.json").write_text('{"revision": 7}')
    assert folder.revision("walk") == 7
    (stream / "manifest.json").write_text("{")
    with pytest.raises(JobError, match='stream "walk": its manifest cannot be read'):
        folder.revision("walk")
