"""Receipts: every state of the file is JSON Lines that any reader takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adastate_core.files.receipts import ReceiptFile
from adastate_core.files.strict_json import strict_json


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def lines(path: Path) -> list[object]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_the_file_is_valid_after_every_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    receipts = ReceiptFile(path, {"video": "a.mp4"})
    assert lines(path) == [{"video": "a.mp4"}]
    receipts.add({"event": "chunk", "text": "two\nlines"})
    receipts.add({"event": "end", "loss": float("nan")})
    assert lines(path) == [
        {"video": "a.mp4"},
        {"event": "chunk", "text": "two\nlines"},
        {"event": "end", "loss": None},
    ]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.jsonl"
    receipts = ReceiptFile(path, {"video": "a.mp4"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            receipts.add({"event": "chunk", "text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert lines(path) == [{"video": "a.mp4"}]
    receipts.add({"event": "end"})
    assert lines(path) == [{"video": "a.mp4"}, {"event": "end"}]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        ReceiptFile(path, {})
    assert path.read_text() == "mine"


def test_numbers_that_json_does_not_know_become_null() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5, (float("-inf"),)], "c": "NaN"}
    assert json.loads(strict_json(value), parse_constant=refuse) == {
        "a": None,
        "b": [None, 1.5, [None]],
        "c": "NaN",
    }
