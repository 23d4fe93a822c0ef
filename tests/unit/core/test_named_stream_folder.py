"""Folders of named streams that were damaged, forged, closed, or left in the middle of a commit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adastate_core.errors import StateFileError
from adastate_core.named_stream import commit_stream, open_stream
from adastate_core.origin import StreamOrigin
from tests.support.named_streams import NAME, files_of, in_child, relay, stopping, text_of
from tests.support.reference_host import Studio


def opens_right_or_refuses(root: Path, right: str) -> bool:
    """Return whether the damage was noticed; fail if it led to another state."""
    before = files_of(root / NAME)
    try:
        opened = open_stream(root, NAME, Studio().fresh)
    except StateFileError as error:
        assert error.what == "stream 'walk'"  # noqa: PT017
        assert files_of(root / NAME) == before
        return True
    assert text_of(opened) == right
    return False


def test_every_truncation_is_noticed(root: Path) -> None:
    right = text_of(open_stream(root, NAME, Studio().fresh))
    for path in sorted((root / NAME).iterdir()):
        whole = path.read_bytes()
        for percent in range(100) if whole else ():
            path.write_bytes(whole[: len(whole) * percent // 100])
            assert opens_right_or_refuses(root, right), f"{path.name} at {percent} %"
        path.unlink()
        noticed = path.name == ".lock" or opens_right_or_refuses(root, right)
        assert noticed, f"{path.name} missing"
        path.write_bytes(whole)
    assert text_of(open_stream(root, NAME, Studio().fresh)) == right


def test_flipped_bytes_never_make_another_stream(root: Path) -> None:
    right = text_of(open_stream(root, NAME, Studio().fresh))
    source = torch.Generator().manual_seed(0)
    noticed = 0
    for path in sorted((root / NAME).glob("*.*s*")):
        whole = path.read_bytes()
        for position in torch.randint(len(whole), (500,), generator=source).tolist():
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(torch.randint(8, (), generator=source))
            path.write_bytes(damaged)
            noticed += opens_right_or_refuses(root, right)
        path.write_bytes(whole)
    assert noticed > 1000  # headers of older segments are not read


def forge(root: Path, **changes: object) -> None:
    """Write a manifest with other values and a right digest."""
    path = root / NAME / "manifest.json"
    values = {**json.loads(path.read_text()), **changes}
    values.pop("sha256")
    own = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**values, "sha256": own}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, r"format version 2, expected version 1; update AdaState"),
        ({"format": "other"}, "another format"),
        ({"revision": 0}, "wrong id, revision"),
        ({"revision": "3"}, "wrong entry"),
        ({"stream": "../x"}, "wrong id"),
        ({"segments": []}, "list of segments"),
        ({"segments": None}, "wrong entry"),
        ({"header": "0" * 64}, "another header"),
        *(
            ({"segments": [{"file": file, "size": 1, "digests": []}]}, "no name of a segment")
            for file in ("../x", "a/b", "C:\\x", "/etc/passwd", "segment.1.0123.safetensors")
        ),
    ],
)  # fmt: skip
def test_forged_manifests_are_refused(root: Path, changes: dict[str, object], message: str) -> None:
    state = open_stream(root, NAME, Studio().fresh)
    forge(root, **changes)
    before = files_of(root / NAME)
    with pytest.raises(StateFileError, match=message):
        open_stream(root, NAME, Studio().fresh)
    if "header" not in changes:  # which the next commit writes anew
        with pytest.raises(StateFileError, match=message):
            commit_stream(root, state)
        assert files_of(root / NAME) == before


def test_segments_exchanged_or_altered_in_place(root: Path) -> None:
    first, second, _ = sorted((root / NAME).glob("segment.*"))
    second.write_bytes(second.read_bytes()[::-1])
    with pytest.raises(StateFileError, match="cannot be read"):
        open_stream(root, NAME, Studio().fresh)
    shutil.copy(first, second)
    with pytest.raises(StateFileError, match=r"walk.*put the folder back"):
        open_stream(root, NAME, Studio().fresh)


def test_links_that_lead_out_are_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (root / NAME).rename(outside)
    before = {path.name: path.stat().st_mtime_ns for path in outside.iterdir()}
    (root / NAME).symlink_to(outside, target_is_directory=True)
    (root / "broken").symlink_to(root / "nowhere")
    (root / "circle").symlink_to(root / "circle")
    (root / "file").write_text("")
    for name in (NAME, "broken", "circle", "file"):
        with pytest.raises(StateFileError, match=f"stream '{name}': got"):
            open_stream(root, name, Studio().fresh)
        with pytest.raises(StateFileError, match=f"stream '{name}': got"):
            commit_stream(root, replace(Studio().fresh, origin=StreamOrigin(name)))
    assert {path.name: path.stat().st_mtime_ns for path in outside.iterdir()} == before


@pytest.mark.parametrize("file", ["manifest.json", "segment", ".lock"])
def test_links_in_the_folder_are_refused(root: Path, tmp_path: Path, file: str) -> None:
    state = open_stream(root, NAME, Studio().fresh)
    (path,) = list((root / NAME).glob(f"{file}*"))[:1]
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    before = moved.read_bytes()
    if file != ".lock":  # which is not opened for reading
        with pytest.raises(StateFileError, match="a link in place of"):
            open_stream(root, NAME, Studio().fresh)
    with pytest.raises(StateFileError):
        commit_stream(root, state.held(1))
    assert moved.read_bytes() == before


def test_a_first_commit_cut_short_leaves_no_stream(tmp_path: Path) -> None:
    relay(tmp_path, 1, Studio().fresh)
    (tmp_path / NAME / "manifest.json").unlink()
    assert open_stream(tmp_path, NAME, Studio().fresh).origin == StreamOrigin(NAME)
    relay(tmp_path, 2, Studio().fresh)
    assert len(list((tmp_path / NAME).glob("segment.*"))) == 2


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk() -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize("absent", [False, True])
def test_a_full_disk_leaves_the_revision(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int, absent: bool
) -> None:
    name = "new" if absent else NAME
    state = open_stream(root, name, Studio().fresh)
    following = Studio().step(state, 1)
    old = files_of(root / name)
    with monkeypatch.context() as patch:
        # A file is flushed, moved, and its folder flushed: the second file comes third.
        allowed = calls * (2 if function == "fsync" else 1)
        patch.setattr(os, function, stopping(getattr(os, function), allowed, full_disk))
        with pytest.raises(StateFileError, match=r"No space left.*free space"):
            commit_stream(root, following)
    assert files_of(root / name) == {**old, ".lock": b""}
    assert open_stream(root, name, Studio().fresh).origin == state.origin
    assert commit_stream(root, following).origin is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX permissions")
def test_a_read_only_folder_can_be_read_and_keeps_its_revision(root: Path) -> None:
    folder = root / NAME
    state = open_stream(root, NAME, Studio().fresh)
    old = files_of(folder)

    def try_it() -> None:
        os.chdir(root)  # what is above it may be closed to others
        if os.geteuid() == 0:
            os.seteuid(65534)
        opened = open_stream(Path(), NAME, Studio().fresh)
        assert opened.origin == state.origin
        for changed in (opened, open_stream(Path(), "new", Studio().fresh)):
            with pytest.raises(StateFileError, match=r"Permission denied.*writable"):
                commit_stream(Path(), changed)

    for path in folder.iterdir():
        path.chmod(0o644)
    for path in (root, folder):
        path.chmod(0o555)
    try:
        assert in_child(try_it) == 0
    finally:
        for path in (root, folder):
            path.chmod(0o755)
    assert files_of(folder) == old
    assert [p.name for p in root.iterdir()] == [NAME]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
@pytest.mark.parametrize(
    ("function", "calls", "committed"),
    [
        ("fsync", 0, 0),  # the segment is written under its temporary name
        ("replace", 0, 0),  # and flushed
        ("fsync", 1, 0),  # and at its place
        ("fsync", 2, 0),  # the manifest is written under its temporary name
        ("replace", 1, 0),  # and flushed
        ("fsync", 3, 1),  # and at its place
    ],
)
def test_killed_on_the_way_it_is_at_one_revision_or_the_other(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int, committed: int
) -> None:
    following = Studio().step(open_stream(root, NAME, Studio().fresh), 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, stopping(getattr(os, function), calls, kill_self))
        assert in_child(lambda: commit_stream(root, following)) == -signal.SIGKILL
    opened = open_stream(root, NAME, Studio().fresh)
    assert opened.origin is not None
    assert opened.origin.revision == 3 + committed
    relay(root, 5 - opened.origin.revision, Studio().fresh)  # the lock died with its process
    opened = open_stream(root, NAME, Studio().fresh)
    assert text_of(opened) == text_of(Studio().step(Studio().fresh, 5))
    names = sorted(path.name.split(".")[0] for path in (root / NAME).iterdir())
    assert names == ["", "manifest", *["segment"] * 5]  # leftovers are gone
