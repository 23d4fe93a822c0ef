"""What a lease brings back is what was trained, in half precision, or is said to be missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.tiny_anchors import fill_folder
from training.anchors.lease import Sizes, variants
from training.anchors.parcels import MOST_FILES, deliver, pack, unpack
from training.anchors.runs import AVERAGE, BASE, run_folder, told

PART = 400_000


@pytest.fixture
def sent(tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder that was packed, and where its parcels are."""
    fill_folder(tmp_path / "there")
    average = run_folder(tmp_path / "there", BASE) / AVERAGE
    paths = pack(tmp_path / "there", average, tmp_path / "parcels", PART)
    assert len(paths) > 2
    assert all(path.stat().st_size <= PART for path in paths)
    return tmp_path / "there", tmp_path / "parcels"


def test_what_was_packed_is_restored(sent: tuple[Path, Path], tmp_path: Path) -> None:
    there, parcels = sent
    files, missing = unpack(parcels, tmp_path / "here")
    assert (files, missing) == ([run_folder(tmp_path / "here", BASE) / AVERAGE], [])
    before, after = (load_file(run_folder(f, BASE) / AVERAGE) for f in (there, tmp_path / "here"))
    assert all(torch.equal(after[name], value.half()) for name, value in before.items())
    assert told(files[0]) == told(run_folder(there, BASE) / AVERAGE)


def test_a_missing_parcel_is_named_and_a_damaged_one_refused(
    sent: tuple[Path, Path], tmp_path: Path
) -> None:
    second = next(sent[1].glob("*.2-of-*"))
    data = second.read_bytes()
    second.unlink()
    files, missing = unpack(sent[1], tmp_path / "here")
    assert (files, len(missing)) == ([], 1)
    assert "parcel 2 of" in missing[0]
    second.write_bytes(bytes(reversed(data)))
    with pytest.raises(ValueError, match="is damaged"):
        unpack(sent[1], tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_deliveries_are_small_and_miss_nothing(sent: tuple[Path, Path], tmp_path: Path) -> None:
    source = sent[1]
    for number, path in enumerate(sorted(source.iterdir())):
        os.utime(path, ns=(number, number))
    for number in range(12):
        (source / f"more.{number:02d}").write_bytes(b"x")
    total, skip, out = len(list(source.iterdir())), 0, tmp_path / "out"
    while skip < total:
        gone, left = deliver(source, out, skip)
        assert 0 < gone <= MOST_FILES
        skip += gone
        assert left == total - skip
    assert {path.name for path in out.iterdir()} == {path.name for path in source.iterdir()}


def test_a_file_that_is_packed_again_replaces_the_first(sent: tuple[Path, Path]) -> None:
    there, parcels = sent
    average = run_folder(there, BASE) / AVERAGE
    params = {name: value + 1.0 for name, value in load_file(average).items()}
    save_file(params, average)
    again = pack(there, average, parcels, PART)
    assert set(parcels.iterdir()) == set(again)
    whole = pack(there, average, parcels)
    assert [path.name.rsplit(".", 1)[1] for path in whole] == ["1-of-1"]
    assert list(parcels.iterdir()) == whole


def test_a_lease_trains_four_anchors_twice_and_three_more_weights() -> None:
    runs = variants(Sizes.tiny())
    names = [run.name for run in runs]
    assert len(set(names)) == 11
    assert names[:4] == [f"{a}-seed1-alpha2" for a in ("adaptive", "frozen", "none", "ema")]
    assert names[-3:] == [f"adaptive-seed1-alpha{a}" for a in (0, 1, 4)]
