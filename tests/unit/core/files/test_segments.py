"""Segments: tensors one after another in a file that grows at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adastate_core.errors import StateFileError
from adastate_core.files import segments
from adastate_core.files.manifest import Segment
from adastate_core.files.names import damaged
from adastate_core.files.schema import DTYPES, Place
from adastate_core.files.segments import Appender, SegmentReader, SegmentWriter


def refuse(seen: str) -> StateFileError:
    return damaged("walk", seen)


def written(
    folder: Path, *things: torch.Tensor, newest: Segment | None = None, most: int | None = None
) -> tuple[SegmentWriter, list[Place]]:
    writer = SegmentWriter(folder, 3, newest, most)
    places = [place for thing in things for place in writer.add([thing])]
    for appender in writer.appenders:
        appender.finish()
    return writer, places


def reader(folder: Path, writer: SegmentWriter) -> SegmentReader:
    return SegmentReader(folder, writer.written.values(), refuse)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back(tmp_path: Path, name: str) -> None:
    x = (torch.arange(6) % 2).reshape(2, 3).to(DTYPES[name])  # type: ignore[index]
    writer, (place,) = written(tmp_path, x)
    assert (place.dtype, place.shape, place.end) == (name, (2, 3), x.nbytes)
    back = reader(tmp_path, writer).read(place)
    assert back.dtype == x.dtype
    assert torch.equal(back.view(torch.uint8), x.view(torch.uint8))


def test_tensors_stand_one_after_another(tmp_path: Path) -> None:
    first, second = torch.arange(4.0), torch.arange(6).reshape(2, 3)
    writer, places = written(tmp_path, first, second.T, torch.zeros(0), torch.tensor(3.0))
    assert [place.at for place in places] == [0, 16, 64, 64]
    (segment,) = writer.written.values()
    assert (segment.size, segment.held) == (68, 4)
    assert (tmp_path / segment.file).stat().st_size == 68
    read = reader(tmp_path, writer)
    found = [read.read(place) for place in places]
    read.close()
    assert torch.equal(found[0], first)
    assert torch.equal(found[1], second.T)
    assert found[2].shape == (0,)
    assert found[3] == 3.0


def test_a_segment_is_gone_on_with_behind_what_counts(tmp_path: Path) -> None:
    writer, (before,) = written(tmp_path, torch.arange(4.0))
    (segment,) = writer.written.values()
    with (tmp_path / segment.file).open("ab") as file:
        file.write(b"left by a commit that was cut short")
    writer, (after,) = written(tmp_path, torch.arange(3.0), newest=segment)
    (longer,) = writer.written.values()
    assert (longer.file, longer.size, longer.held) == (segment.file, 28, 2)
    assert (tmp_path / segment.file).stat().st_size == 28
    read = reader(tmp_path, writer)
    assert torch.equal(read.read(before), torch.arange(4.0))
    assert torch.equal(read.read(after), torch.arange(3.0))
    read.close()


def test_a_full_segment_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, _ = written(tmp_path, *[torch.zeros(1)] * 5, most=2)
    assert [segment.held for segment in writer.written.values()] == [2, 2, 1]
    monkeypatch.setattr(segments, "LARGEST", 100)
    writer, _ = written(tmp_path, *[torch.zeros(20)] * 3)
    assert [segment.size for segment in writer.written.values()] == [160, 80]


def test_a_dtype_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match=r"complex64\)\. Remove"):
        SegmentWriter(tmp_path, 1, None, None).add([torch.zeros(1, dtype=torch.complex64)])


def test_what_is_not_there_in_full_is_refused(tmp_path: Path) -> None:
    writer, (place,) = written(tmp_path, torch.arange(4.0))
    read = reader(tmp_path, writer)
    assert read.check(place) == ("F32", (4,))
    for bad in ({"at": 1}, {"shape": (5,)}, {"segment": "other"}):
        with pytest.raises(StateFileError, match="a tensor that is not in"):
            read.check(place.model_copy(update=bad))


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    writer, (place,) = written(tmp_path, torch.arange(4.0))
    path = tmp_path / place.segment
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateFileError, match="differs from its digest"):
        reader(tmp_path, writer).read(place)


def test_an_appender_puts_back_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before, and more")
    appender = Appender(path, 6)
    appender.write(b" after")
    assert appender.size == 12
    appender.undo()
    assert path.read_bytes() == b"before"
    new = Appender(tmp_path / "new", None)
    new.write(b"x")
    new.undo()
    assert not (tmp_path / "new").exists()
    with pytest.raises(FileExistsError):
        Appender(path, None)


def test_finished_files_can_still_be_put_back(tmp_path: Path) -> None:
    """A commit fails after its segments were flushed: the manifest could not be written."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    appender = Appender(path, 6)
    appender.write(b" after")
    appender.finish()
    assert path.read_bytes() == b"before after"
    appender.undo()
    assert path.read_bytes() == b"before"
