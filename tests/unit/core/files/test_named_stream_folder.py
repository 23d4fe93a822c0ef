"""Folders of named streams that were damaged, forged, closed, or left in the middle of a commit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adastate_core.errors import AdaStateError, StateFileError
from adastate_core.files.named_stream import commit_stream, open_stream
from adastate_core.stream.origin import StreamOrigin
from tests.support.named_streams import NAME, files_of, in_child, relay, stopping, text_of
from tests.support.reference_host import Harness


def opens_right_or_refuses(root: Path, right: str) -> bool:
    """Return whether the damage was noticed; fail if it led to another state."""
    before = files_of(root / NAME)
    try:
        opened = open_stream(root, NAME, Harness().fresh)
    except StateFileError as error:
        assert error.what == "stream 'walk'"  # noqa: PT017
        assert files_of(root / NAME) == before
        return True
    assert text_of(opened) == right
    return False


def test_every_truncation_is_noticed(root: Path) -> None:
    right = text_of(open_stream(root, NAME, Harness().fresh))
    for path in sorted((root / NAME).iterdir()):
        whole = path.read_bytes()
        for percent in range(100) if whole else ():
            path.write_bytes(whole[: len(whole) * percent // 100])
            assert opens_right_or_refuses(root, right), f"{path.name} at {percent} %"
        path.unlink()
        noticed = path.name == ".lock" or opens_right_or_refuses(root, right)
        assert noticed, f"{path.name} missing"
        path.write_bytes(whole)
    assert text_of(open_stream(root, NAME, Harness().fresh)) == right


def test_flipped_bytes_never_make_another_stream(root: Path) -> None:
    right = text_of(open_stream(root, NAME, Harness().fresh))
    source = torch.Generator().manual_seed(0)
    noticed = 0
    for path in sorted((root / NAME).glob("*.*")):
        if path.name == ".lock":
            continue
        whole = path.read_bytes()
        for position in torch.randint(len(whole), (200,), generator=source).tolist():
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(torch.randint(8, (), generator=source))
            path.write_bytes(damaged)
            noticed += opens_right_or_refuses(root, right)
        path.write_bytes(whole)
    assert noticed == 3 * 200  # of the manifest, the log and the segment


def forge(root: Path, **changes: object) -> None:
    """Write a manifest with other values and a right digest."""
    path = root / NAME / "manifest.json"
    values = {**json.loads(path.read_text()), **changes}
    values.pop("sha256")
    own = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**values, "sha256": own}))


SEGMENT = {"file": "segment.00001.01234567.bin", "size": 1, "held": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, r"newer AdaState \(format version 3\)\. Update AdaState"),
        ({"format": "other"}, "another format"),
        ({"revision": 0}, "revision: Input should be"),
        ({"revision": "3"}, "revision: Input should be"),
        ({"revision": 7}, "ends at another revision"),
        ({"stream": "../x"}, "stream: String should"),
        ({"stream": "0" * 32}, "differs from its digest"),
        ({"segments": []}, "a tensor that is not in segment"),
        ({"segments": None}, "segments: Input should be"),
        ({"segments": [SEGMENT]}, "no segment.00001.01234567.bin"),
        ({"chain": "0" * 64}, "differs from its digest"),
        ({"log": {"file": "log.00001.01234567.jsonl", "size": 1, "written": 1}}, "no log.00001"),
        ({"more": 1}, "more: Extra inputs"),
        *(
            ({"segments": [{**SEGMENT, "file": file}]}, "file: String should")
            for file in ("../x", "a/b", "C:\\x", "/etc/passwd", "segment.1.0123.bin")
        ),
    ],
)
def test_forged_manifests_are_refused(root: Path, changes: dict[str, object], message: str) -> None:
    forge(root, **changes)
    before = files_of(root / NAME)
    with pytest.raises(StateFileError, match=message) as error:
        open_stream(root, NAME, Harness().fresh)
    assert "\n" not in str(error.value)
    assert files_of(root / NAME) == before


@pytest.mark.parametrize("changes", [{"version": 3}, {"chain": "0" * 64}, {"stream": "0" * 32}])
def test_nothing_is_committed_to_forged_manifests(root: Path, changes: dict[str, object]) -> None:
    state = open_stream(root, NAME, Harness().fresh)
    forge(root, **changes)
    before = files_of(root / NAME)
    with pytest.raises(AdaStateError):
        commit_stream(root, state)
    assert {**files_of(root / NAME), ".lock": b""} == before


def forge_line(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the last line of the log with other values and right digests."""
    folder = root / NAME
    manifest = json.loads((folder / "manifest.json").read_text())
    path = folder / manifest["log"]["file"]
    *lines, last = path.read_bytes().splitlines(keepends=True)
    values = json.loads(last)
    change(values)
    lines.append(json.dumps(values).encode() + b"\n")
    path.write_bytes(b"".join(lines))
    chain = manifest["stream"]
    for line in lines:
        chain = hashlib.sha256(chain.encode() + line).hexdigest()
    forge(root, chain=chain, log={**manifest["log"], "size": path.stat().st_size})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(kept=99), "continues from more than it has"),
        (lambda v: v.update(forgotten=[[0, 10**9]]), "trims more than it has"),
        (lambda v: v.update(forgotten=[[0, 2]]) or v["entries"].clear(), "next chunk 3"),
        (lambda v: v.update(revision=9), "revision 9 after 2"),
        (lambda v: v.update(latent_shape=[1, 4, 9, 9]), r"in place of \(1, 4"),
        (lambda v: v.update(hold=-2), "hold: Input should be"),
        (lambda v: v.update(dropped=[v["entries"][0]["positive"]]), "without its conditioning"),
        (lambda v: v["entries"][0]["content"].update(at=10**9), "not in segment"),
        (lambda v: v["entries"][0]["content"].update(shape=[1, 4, 3, 2, 10**12]), "not in segment"),
        (lambda v: v["entries"][0]["content"].update(dtype="I64"), "of I64|not in segment"),
        (lambda v: v["entries"][0]["content"].update(digest="0" * 64), "differs from its digest"),
        (lambda v: v["entries"][0]["content"].update(segment="../x"), "not in ../x"),
        (lambda v: v["entries"][0].update(content={"tensor": "x"}), "without a place"),
        (lambda v: v["entries"][0].update(index=7), "chunk 7 after chunk 1"),
        (lambda v: v["entries"][0]["config"].update(chunk_frames=99), "in place of"),
    ],
)
def test_forged_logs_are_refused(
    root: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    forge_line(root, change)
    with pytest.raises(StateFileError, match=message) as error:
        open_stream(root, NAME, Harness().fresh)
    assert error.value.what == "stream 'walk'"
    assert "\n" not in str(error.value)


def test_segments_exchanged_or_altered_in_place(root: Path) -> None:
    (segment,) = sorted((root / NAME).glob("segment.*"))
    (log,) = sorted((root / NAME).glob("log.*"))
    before = segment.read_bytes(), log.read_bytes()
    segment.write_bytes(before[0][::-1])
    with pytest.raises(StateFileError, match="differs from its digest"):
        open_stream(root, NAME, Harness().fresh)
    segment.write_bytes(before[0])
    log.write_bytes(before[1][::-1])
    with pytest.raises(StateFileError, match=r"walk.*Restore its folder"):
        open_stream(root, NAME, Harness().fresh)


def test_links_that_lead_out_are_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (root / NAME).rename(outside)
    before = {path.name: path.stat().st_mtime_ns for path in outside.iterdir()}
    (root / NAME).symlink_to(outside, target_is_directory=True)
    (root / "broken").symlink_to(root / "nowhere")
    (root / "circle").symlink_to(root / "circle")
    (root / "file").write_text("")
    for name in (NAME, "broken", "circle", "file"):
        with pytest.raises(StateFileError, match=f'The stream "{name}" is damaged'):
            open_stream(root, name, Harness().fresh)
        with pytest.raises(StateFileError, match=f'The stream "{name}" is damaged'):
            commit_stream(root, replace(Harness().fresh, origin=StreamOrigin(name)))
    assert {path.name: path.stat().st_mtime_ns for path in outside.iterdir()} == before


@pytest.mark.parametrize("file", ["manifest.json", "segment", "log", ".lock"])
def test_links_in_the_folder_are_refused(root: Path, tmp_path: Path, file: str) -> None:
    state = open_stream(root, NAME, Harness().fresh)
    (path,) = list((root / NAME).glob(f"{file}*"))[:1]
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    before = moved.read_bytes()
    if file != ".lock":  # which is not opened for reading
        with pytest.raises(StateFileError, match="a link in place of"):
            open_stream(root, NAME, Harness().fresh)
    with pytest.raises(StateFileError):
        commit_stream(root, state.hold_anchor(1))
    assert moved.read_bytes() == before


def test_a_first_commit_cut_short_leaves_no_stream(tmp_path: Path) -> None:
    relay(tmp_path, 1, Harness().fresh)
    (tmp_path / NAME / "manifest.json").unlink()
    assert open_stream(tmp_path, NAME, Harness().fresh).origin == StreamOrigin(NAME)
    relay(tmp_path, 2, Harness().fresh)
    assert len(list((tmp_path / NAME).glob("segment.*"))) == 1
    (tmp_path / NAME / "manifest.json").unlink()  # two commits are no first one cut short
    with pytest.raises(StateFileError, match="without manifest"):
        open_stream(tmp_path, NAME, Harness().fresh)


def files_are_full(folder: Path) -> bool:
    """Return whether nothing stands in the files but what the manifest says."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return all(
        (folder / each["file"]).stat().st_size == each["size"]
        for each in (manifest["log"], *manifest["segments"])
    )


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk() -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("function", "calls"), [("replace", 0), *(("fsync", n) for n in range(3))])
@pytest.mark.parametrize("absent", [False, True])
def test_a_full_disk_leaves_the_revision(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int, absent: bool
) -> None:
    name = "new" if absent else NAME
    state = open_stream(root, name, Harness().fresh)
    following = Harness().step(state, 1)
    old = files_of(root / name)
    with monkeypatch.context() as patch:
        # The segment and the log are flushed, and the manifest before it is moved to its place.
        patch.setattr(os, function, stopping(getattr(os, function), calls, full_disk))
        with pytest.raises(StateFileError, match=r"No space left.*Free some space"):
            commit_stream(root, following)
    assert files_of(root / name) == {**old, ".lock": b""}
    assert open_stream(root, name, Harness().fresh).origin == state.origin
    assert commit_stream(root, following).origin is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX permissions")
def test_a_read_only_folder_can_be_read_and_keeps_its_revision(root: Path) -> None:
    folder = root / NAME
    state = open_stream(root, NAME, Harness().fresh)
    old = files_of(folder)

    def try_it() -> None:
        os.chdir(root)  # what is above it may be closed to others
        if os.geteuid() == 0:
            os.seteuid(65534)
        opened = open_stream(Path(), NAME, Harness().fresh)
        assert opened.origin == state.origin
        for changed in (opened, open_stream(Path(), "new", Harness().fresh)):
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
        ("fsync", 0, 0),  # the segment is written
        ("fsync", 1, 0),  # and flushed, and the log is written
        ("fsync", 2, 0),  # and flushed, and the manifest is written under its temporary name
        ("replace", 0, 0),  # and flushed
        ("fsync", 3, 1),  # and at its place
    ],
)
def test_killed_on_the_way_it_is_at_one_revision_or_the_other(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int, committed: int
) -> None:
    following = Harness().step(open_stream(root, NAME, Harness().fresh), 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, stopping(getattr(os, function), calls, kill_self))
        assert in_child(lambda: commit_stream(root, following)) == -signal.SIGKILL
    opened = open_stream(root, NAME, Harness().fresh)
    assert opened.origin is not None
    assert opened.origin.revision == 3 + committed
    relay(root, 5 - opened.origin.revision, Harness().fresh)  # the lock died with its process
    opened = open_stream(root, NAME, Harness().fresh)
    assert text_of(opened) == text_of(Harness().step(Harness().fresh, 5))
    names = sorted(path.name.split(".")[0] for path in (root / NAME).iterdir())
    assert names == ["", "log", "manifest", "segment"]  # leftovers are gone
    assert files_are_full(root / NAME)
