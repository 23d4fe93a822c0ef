"""Numbers of files that are given once, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adastate_core.files.atomic import claim_numbered


def name(number: int) -> str:
    return f"state_{number:05d}.bin"


def test_no_number_is_given_twice(tmp_path: Path) -> None:
    (tmp_path / name(3)).write_text("kept")
    with ThreadPoolExecutor(8) as threads:
        claimed = list(threads.map(lambda _: claim_numbered(tmp_path, name), range(40)))
    expected = [name(number) for number in range(1, 42) if number != 3]
    assert sorted(path.name for path in claimed) == expected
    assert (tmp_path / name(3)).read_text() == "kept"


def test_a_broken_link_is_no_free_number(tmp_path: Path) -> None:
    (tmp_path / name(5)).symlink_to(tmp_path / "elsewhere")
    assert claim_numbered(tmp_path, name, first=5).name == name(6)
    assert not (tmp_path / "elsewhere").exists()


def test_other_failures_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        claim_numbered(tmp_path / "missing", name)
