"""Writing one revision of a named stream: what is written, what stays, what is given back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adastate_core.errors import StateFileError
from adastate_core.files import commit
from adastate_core.files.commit import write_revision
from adastate_core.files.manifest import read_manifest
from adastate_core.files.revision import Revision
from adastate_core.stream.conditioning import Conditioning
from adastate_core.stream.events import ChunkEvent, Conditions
from adastate_core.stream.state import StreamState
from tests.support.named_streams import files_of
from tests.support.reference_host import Harness

STREAM = "0" * 32


@pytest.fixture(scope="module")
def states() -> list[StreamState]:
    """Return a stream after 0 to 4 chunks."""
    harness, state = Harness(), Harness().fresh
    found = [state]
    for chunk in range(4):
        state = harness.step(state, prompt=chunk // 2)
        found.append(state)
    return found


def written(folder: Path, *states: StreamState) -> list[Revision]:
    revisions: list[Revision] = []
    for number, state in enumerate(states, 1):
        base = revisions[-1] if revisions else None
        revisions.append(write_revision(folder, STREAM, number, state, base))
    return revisions


def lines(folder: Path) -> list[dict[str, object]]:
    (log,) = folder.glob("log.*")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_every_revision_adds_a_line_and_its_tensors(
    tmp_path: Path, states: list[StreamState]
) -> None:
    revisions = written(tmp_path, *states[1:4])
    assert [line["revision"] for line in lines(tmp_path)] == [1, 2, 3]
    assert [line["kept"] for line in lines(tmp_path)] == [0, 1, 2]
    assert [len(line["entries"]) for line in lines(tmp_path)] == [1, 1, 1]  # type: ignore[arg-type]
    # The first prompt with the first chunk, the second one with the third.
    assert [len(line["conditionings"]) for line in lines(tmp_path)] == [1, 0, 1]  # type: ignore[arg-type]
    (segment,) = revisions[-1].manifest.segments
    assert segment.held == 5
    assert segment.size == (tmp_path / segment.file).stat().st_size
    assert read_manifest(tmp_path) == revisions[-1].manifest


def test_what_an_earlier_revision_needs_is_not_touched(
    tmp_path: Path, states: list[StreamState]
) -> None:
    (first,) = written(tmp_path, states[2])
    before = files_of(tmp_path)
    write_revision(tmp_path, STREAM, 2, states[3], first)
    after = files_of(tmp_path)
    for file, size in first.manifest.files.items():
        assert after[file][:size] == before[file][:size]


def test_a_rewind_names_what_stays_and_cuts_the_rest_off(
    tmp_path: Path, states: list[StreamState]
) -> None:
    long, short = written(tmp_path, states[4], states[2])
    assert lines(tmp_path)[1]["kept"] == 2
    assert lines(tmp_path)[1]["dropped"] == [
        d for d in states[4].conditionings if d not in states[2].conditionings
    ]
    assert sum(s.size for s in short.manifest.segments) < sum(
        s.size for s in long.manifest.segments
    )
    assert [s.held for s in short.manifest.segments] == [3]


def test_a_segment_that_nothing_needs_is_no_part_of_it(
    tmp_path: Path, states: list[StreamState]
) -> None:
    _, after = written(tmp_path, states[4], states[0])
    assert after.manifest.segments == ()


def test_a_bounded_history_says_what_it_forgot(tmp_path: Path) -> None:
    harness = Harness()
    state = harness.step(StreamState(harness.fresh.latent_shape, history_chunks=1), 6)
    later = harness.step(state)
    revisions = written(tmp_path, state, later)
    newly = [
        position
        for position, (old, new) in enumerate(zip(state.chunks, later.chunks, strict=False))
        if old.content is not None and new.content is None
    ]
    assert newly
    assert lines(tmp_path)[1]["forgotten"] == [[newly[0], newly[-1] + 1]]
    held = sum(segment.held for segment in revisions[1].manifest.segments)
    assert held == len(later.kept_chunks()) + 1


def test_a_commit_that_fails_leaves_the_folder(
    tmp_path: Path, states: list[StreamState], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = written(tmp_path, states[2])
    before = files_of(tmp_path)

    def full(folder: Path, manifest: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commit, "write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        write_revision(tmp_path, STREAM, 2, states[3], first)
    with pytest.raises(OSError, match="No space left"):
        write_revision(tmp_path, STREAM, 2, states[3], None)
    assert files_of(tmp_path) == before


def test_a_tensor_that_cannot_be_kept_leaves_the_folder(
    tmp_path: Path, states: list[StreamState]
) -> None:
    (first,) = written(tmp_path, states[2])
    before = files_of(tmp_path)
    odd = Conditioning.pack(torch.zeros(1, dtype=torch.complex64))
    (last,) = states[2].chunks[-1:]
    chunk = ChunkEvent(2, 0, odd.digest, None, "", last.config, content=last.content)
    with pytest.raises(StateFileError, match="complex64"):
        write_revision(tmp_path, STREAM, 2, states[2].append_chunk(chunk, Conditions(odd)), first)
    assert files_of(tmp_path) == before


def test_a_folder_of_more_past_than_present_is_written_anew(
    tmp_path: Path, states: list[StreamState], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = written(tmp_path, states[2])
    monkeypatch.setattr(commit, "_SEGMENTS", 0)
    second = write_revision(tmp_path, STREAM, 2, states[3], first)
    assert not {*first.manifest.files} & {*second.manifest.files}
    (line,) = [
        json.loads(text) for text in (tmp_path / second.manifest.log.file).read_text().splitlines()
    ]
    assert (line["kept"], len(line["entries"])) == (0, 3)
