"""The log of a named stream, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adastate_core.errors import StateFileError
from adastate_core.files.schema import ChunkModel, foreign
from adastate_core.files.stream_log import (
    LogLine,
    LogReplay,
    chained,
    parsed,
    ranges,
    read_lines,
)
from adastate_core.stream.conditioning import Conditioning
from adastate_core.stream.events import Event, HoldEvent
from tests.support.reference_host import text


def refuse(seen: str) -> StateFileError:
    return foreign("stream", seen)


def hold(chunks: int) -> dict[str, Any]:
    return {"kind": "hold", "chunks": chunks}


PLACE = {"segment": "s", "at": 0, "dtype": "F32", "shape": [1], "digest": "0" * 64}
CHUNK = {
    "kind": "chunk",
    "index": 0,
    "seed": 0,
    "positive": "p",
    "negative": None,
    "weights": "",
    "config": {},
    "content": PLACE,
}


def line(revision: int, kept: int, *entries: dict[str, Any], **changes: Any) -> LogLine:
    values = {
        "latent_shape": [1, 1, 1, 1],
        "fingerprint": None,
        "latent_format": "",
        "chunk_index": 0,
        "hold": 0,
        "history_chunks": 0,
        "revision": revision,
        "kept": kept,
        "forgotten": [],
        "entries": entries,
        "conditionings": {},
        "dropped": [],
    }
    (made,) = parsed([json.dumps({**values, **changes}).encode() + b"\n"], refuse)
    return made


def replay(*lines: LogLine, known: tuple[Event, ...] = ()) -> LogReplay:
    log = LogReplay(known, {}, refuse)
    for each in lines:
        log.apply(each)
    return log


def added(log: LogReplay) -> list[Any]:
    return [getattr(model, "chunks", None) for model in log.added]


def test_lines_add_and_take_back() -> None:
    log = replay(line(1, 0, hold(1), hold(2)), line(2, 2, hold(3)))
    assert (log.kept, added(log)) == (0, [1, 2, 3])
    log.apply(line(3, 1, hold(4)))
    assert added(log) == [1, 4]
    assert log.newest is not None
    assert log.newest.revision == 3


def test_what_was_known_is_kept_as_far_as_it_goes() -> None:
    known = (HoldEvent(1), HoldEvent(2), HoldEvent(3))
    log = replay(line(5, 3, hold(4)), known=known)
    assert (log.kept, added(log)) == (3, [4])
    log.apply(line(6, 1, hold(5)))
    assert (log.kept, added(log)) == (1, [5])


def test_latents_are_forgotten_of_known_and_of_new_entries() -> None:
    log = replay(line(5, 2, CHUNK, {**CHUNK, "index": 1}), known=(HoldEvent(1), HoldEvent(2)))
    log.apply(line(6, 4, forgotten=[[0, 1], [2, 3]]))
    assert log.forgotten == {0}
    contents = [m.content for m in log.added if isinstance(m, ChunkModel)]
    assert contents[0] is None
    assert contents[1] is not None


@pytest.mark.parametrize(
    ("second", "seen"),
    [
        (line(3, 1), "revision 3 after 1"),
        (line(1, 1), "revision 1 after 1"),
        (line(2, 2), "continues from more than it has"),
        (line(2, 1, forgotten=[[0, 2]]), "trims more than it has"),
    ],
    ids=range(4),
)
def test_lines_that_do_not_follow_are_refused(second: LogLine, seen: str) -> None:
    log = replay(line(1, 0, hold(1)))
    with pytest.raises(StateFileError, match=seen):
        log.apply(second)


def test_conditionings_come_and_go() -> None:
    known = {"old": text(0), "older": text(1)}
    log = LogReplay((), known, refuse)
    new = {"new": {"structure": "[]", "tensors": {"0": PLACE}}}
    log.apply(line(1, 0, conditionings=new, dropped=["old", "unknown"]))
    assert set(log.conditionings) == {"older", "new"}
    assert isinstance(log.conditionings["older"], Conditioning)
    assert set(known) == {"old", "older"}


def test_a_chain_depends_on_every_line_and_their_order() -> None:
    def chain(*lines: bytes) -> str:
        digest = "id"
        for each in lines:
            digest = chained(digest, each)
        return digest

    found = {chain(), chain(b"a"), chain(b"b"), chain(b"a", b"b"), chain(b"b", b"a"), chain(b"ab")}
    assert len(found) == 6
    assert chain(b"a", b"b") == chained(chain(b"a"), b"b")


def test_lines_are_read_between_two_sizes(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\nthree\nhalf a li")
    assert read_lines(tmp_path / "log", 0, 14) == [b"one\n", b"two\n", b"three\n"]
    assert read_lines(tmp_path / "log", 4, 8) == [b"two\n"]
    assert read_lines(tmp_path / "log", 14, 14) == []


@pytest.mark.parametrize("bad", [b"{", b"{}\n", b"null\n"])
def test_what_no_commit_writes_is_refused(bad: bytes) -> None:
    with pytest.raises(StateFileError, match="a log with "):
        parsed([bad], refuse)


@pytest.mark.parametrize(
    ("positions", "found"),
    [
        ([], []),
        ([4], [(4, 5)]),
        ([0, 1, 2], [(0, 3)]),
        ([0, 2, 3, 7], [(0, 1), (2, 4), (7, 8)]),
    ],
)
def test_positions_are_written_as_ranges(
    positions: list[int], found: list[tuple[int, int]]
) -> None:
    assert ranges(positions) == found
    assert [p for first, end in found for p in range(first, end)] == positions


def test_torch_is_not_needed_to_read_a_log() -> None:
    """No tensor is made by a line: their places are checked before."""
    log = replay(line(1, 0, CHUNK))
    assert not any(isinstance(value, torch.Tensor) for value in dict(log.added[0]).values())
