"""The ledger: what it says after any crash, and who may have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import FarmError, JobError
from farm.ledger import Begun, Entry, Ledger, read_ledger


def filled(path: Path) -> dict[str, Entry]:
    with Ledger(path) as ledger:
        ledger.entry("a", "one")
        ledger.begin("a", 0, 4, "server.1.lock")
        ledger.done("a", 0, 5, ("a.mp4",))
        ledger.begin("a", 1, 5, "server.2.lock")
        ledger.entry("b", "two")
        ledger.done("b", 3, 0, ())
        ledger.failed("b", "no such node")
        ledger.entry("c", "three")
        ledger.begin("c", 0, 1, "server.3.lock")
        ledger.ended("c")
        return dict(ledger.entries)


def test_it_says_what_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "jobs.ledger"
    expected = {
        "a": Entry("one", {0}, Begun(1, 5, "server.2.lock"), 5),
        "b": Entry("two", {3}, None, 0, "no such node"),
        "c": Entry("three", set(), Begun(0, 1, None)),
    }
    assert filled(path) == expected
    assert read_ledger(path) == expected
    with Ledger(path) as again:
        assert again.entries == expected
        # What failed is tried again.
        assert again.entry("b", "two").failed == ""
        assert read_ledger(path) == expected
    assert read_ledger(tmp_path / "none") == {}


def test_cut_off_anywhere_it_says_what_was_written_before(tmp_path: Path) -> None:
    path = tmp_path / "jobs.ledger"
    filled(path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        complete = whole[:end].count(b"\n")
        seen = read_ledger(path)
        with Ledger(path) as ledger:
            assert ledger.entries == seen
            ledger.entry("d", "new")
        assert path.read_bytes().startswith(b"".join(lines[:complete]))
        assert read_ledger(path) == {**seen, "d": Entry("new")}


def test_a_damaged_line_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.ledger"
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for bad in (b"{\n", b'{"job": "zz", "done": 1, "revision": 0}\n', b"[]\n", b'{"job": "a"}\n'):
        broken = b"".join([*lines[:3], bad, *lines[3:]])
        path.write_bytes(broken)
        with pytest.raises(FarmError, match=r"Line 4 of the ledger .* is damaged"):
            Ledger(path)
        assert path.read_bytes() == broken
    path.write_text('{"format": "something else", "version": 1}\n')
    with pytest.raises(FarmError, match="Line 1"):
        Ledger(path)


def test_another_job_of_the_same_name_is_refused_once_it_has_begun(tmp_path: Path) -> None:
    with Ledger(tmp_path / "jobs.ledger") as ledger:
        ledger.entry("a", "one")
        assert ledger.entry("a", "other").digest == "other"  # nothing was made of it
        ledger.begin("a", 0, 0, "lock")
        with pytest.raises(JobError, match=r"job a: it was another one .* give it another name"):
            ledger.entry("a", "third")


def test_one_run_has_it_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "jobs.ledger"
    with Ledger(path):
        code = (
            f"from pathlib import Path; from farm.ledger import Ledger; Ledger(Path({str(path)!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "Another run works on jobs.ledger" in done.stderr
    Ledger(path).__exit__(None, None, None)


def test_a_full_disk_leaves_the_line_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.ledger"
    with Ledger(path) as ledger:
        ledger.entry("a", "one")
        before, write = path.read_bytes(), os.write

        def half(handle: int, data: memoryview) -> int:
            write(handle, data[: len(data) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("farm.ledger.os.write", half)
        with pytest.raises(FarmError, match=r"cannot be written: .*No space left"):
            ledger.done("a", 0, 1, ())
        assert path.read_bytes() == before
        assert ledger.entries["a"].done == set()
        monkeypatch.undo()
        ledger.done("a", 0, 1, ())
    assert read_ledger(path)["a"].done == {0}
