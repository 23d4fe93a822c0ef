"""The manifest of a named stream: written whole, read with suspicion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from adastate_core.errors import StateFileError
from adastate_core.files.manifest import (
    MANIFEST,
    LogFile,
    Manifest,
    Segment,
    manifest_digest,
    read_manifest,
    revision_of,
    write_manifest,
)

LOG = "log.00001.01234567.jsonl"
SEGMENT = "segment.00002.89abcdef.bin"


def manifest(revision: int = 2, **changes: Any) -> Manifest:
    values = {
        "stream": "0" * 32,
        "revision": revision,
        "chain": "1" * 64,
        "log": LogFile(file=LOG, size=10, written=3),
        "segments": (Segment(file=SEGMENT, size=20, held=2),),
    }
    return Manifest(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "walk"
    folder.mkdir()
    (folder / LOG).write_bytes(b"x" * 10)
    (folder / SEGMENT).write_bytes(b"x" * 20)
    write_manifest(folder, manifest())
    return folder


def test_a_manifest_there_and_back(folder: Path) -> None:
    assert read_manifest(folder) == manifest()
    assert manifest().files == {LOG: 10, SEGMENT: 20}
    write_manifest(folder, manifest(3))
    assert read_manifest(folder) == manifest(3)
    assert {path.name for path in folder.iterdir()} == {MANIFEST, LOG, SEGMENT}


def test_it_is_ascii_json_with_its_own_digest(folder: Path) -> None:
    values = json.loads((folder / MANIFEST).read_text("ascii"))
    own = values.pop("sha256")
    assert own == hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    assert (values["format"], values["version"]) == ("adastate.named_stream", 2)


def test_a_value_that_was_changed_is_noticed(folder: Path) -> None:
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "revision": 7}))
    with pytest.raises(StateFileError, match="another digest than its own"):
        read_manifest(folder)


def test_its_digest_changes_with_it(folder: Path) -> None:
    before = manifest_digest(folder)
    assert before == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    write_manifest(folder, manifest(3))
    assert manifest_digest(folder) != before
    assert manifest_digest(folder / "nowhere") is None


def test_files_may_be_longer_than_what_counts_and_not_shorter(folder: Path) -> None:
    (folder / LOG).write_bytes(b"x" * 15)
    assert read_manifest(folder) == manifest()
    (folder / SEGMENT).write_bytes(b"x" * 19)
    with pytest.raises(StateFileError, match=f"{SEGMENT} with 19 of 20 bytes"):
        read_manifest(folder)
    (folder / SEGMENT).unlink()
    with pytest.raises(StateFileError, match=f"no {SEGMENT}"):
        read_manifest(folder)


def test_no_manifest_is_no_stream(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "nowhere") is None
    assert read_manifest(tmp_path) is None


def test_a_first_commit_that_was_cut_short_is_no_stream(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / SEGMENT).rename(folder / "segment.00001.89abcdef.bin")
    (folder / LOG).write_bytes(b"one line\n")
    assert read_manifest(folder) is None
    (folder / LOG).write_bytes(b"one line\ntwo\n")
    with pytest.raises(StateFileError, match="segments without manifest"):
        read_manifest(folder)


def test_a_later_commit_without_manifest_is_refused(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(StateFileError, match="segments without manifest"):
        read_manifest(folder)


def test_links_are_refused(folder: Path) -> None:
    for name in (LOG, MANIFEST):
        moved = (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(moved)
        with pytest.raises(StateFileError, match=f"a link in place of {name}"):
            read_manifest(folder)
        (folder / name).unlink()
        moved.rename(folder / name)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"format": "other"}'])
def test_what_is_no_manifest_is_refused(folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(StateFileError, match=r'The stream "walk" is damaged: manifest.json with '):
        read_manifest(folder)


def test_a_newer_version_says_so_whatever_else_is_new(folder: Path) -> None:
    text = '{"format": "adastate.named_stream", "version": 3, "other": 1}'
    (folder / MANIFEST).write_text(text)
    with pytest.raises(StateFileError, match=r"format version 3.*Update AdaState"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        (LOG, 1),
        (SEGMENT, 2),
        ("segment.12345.01234567.safetensors", 12345),
        ("segment.1.01234567.bin", None),
        ("segment.00001.0123456.bin", None),
        ("log.00001.01234567.bin", None),
        (MANIFEST, None),
        (f"{LOG}.tmp", None),
        ("segment.\u0661\u0661\u0661\u0661\u0661.01234567.bin", None),
    ],
)
def test_files_tell_the_revision_they_were_begun_for(name: str, revision: int | None) -> None:
    assert revision_of(name) == revision
