"""Room on a disk: it is taken, given back, and leaves no file behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adastate_core.files.disk_reserve import DiskReserve


def test_room_is_kept_until_it_is_released(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path)
    reserve.grow(3 << 20)
    assert reserve.size == 3 << 20
    if hasattr(os, "posix_fallocate"):
        assert reserve._file is not None
        assert os.fstat(reserve._file.fileno()).st_blocks * 512 >= 3 << 20
    reserve.grow(1)
    assert reserve.size == 3 << 20
    reserve.release()
    reserve.release()
    reserve.grow(1)
    assert reserve.size == 0
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_is_no_full_disk_keeps_less(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    reserve = DiskReserve(tmp_path)
    reserve.grow(1 << 20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        reserve.grow(5 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert reserve.size == 1 << 20
    reserve.release()
