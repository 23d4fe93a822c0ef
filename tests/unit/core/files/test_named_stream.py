"""Named streams: what a commit writes and refuses, and what may be a name."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.digest import tensor_digest
from adastate_core.errors import ConfigError, StateFileError, StateMismatchError
from adastate_core.files.named_stream import (
    commit_or_keep,
    commit_stream,
    open_stream,
    stream_digest,
)
from adastate_core.files.names import check_name
from adastate_core.files.state_file import load_state, save_state
from adastate_core.fingerprint import ModelFingerprint
from adastate_core.stream.conditioning import Conditioning
from adastate_core.stream.events import ChunkEvent, Conditions
from adastate_core.stream.origin import StreamOrigin
from adastate_core.stream.state import StreamState
from tests.support.named_streams import NAME, relay, text_of
from tests.support.reference_host import Harness, text

SIZE = (16, 16)  # large enough that a chunk outweighs its header


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def chunk(
    index: int, prompt: Conditioning, shape: tuple[int, ...] = (1, 16, 3, 8, 8)
) -> ChunkEvent:
    """Return a chunk of random latents, with a hidden state of one frame."""
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(index))
    return ChunkEvent(
        index,
        0,
        prompt.digest,
        None,
        "",
        StreamConfig(),
        latents=str(index),
        frame=3 * index,
        state=latents[:, :, :1].clone(),
        content=latents,
    )


def counted(seen: list[Tensor]) -> Callable[[Tensor], str]:
    """Return the digest of tensors, with a note of each."""

    def digest(tensor: Tensor) -> str:
        seen.append(tensor)
        return tensor_digest(tensor)

    return digest


def test_a_relay_across_restarts_equals_one_run(tmp_path: Path) -> None:
    fresh = Harness().fresh
    assert stream_digest(tmp_path, NAME) is None
    absent = open_stream(tmp_path, NAME, fresh)
    assert absent.origin == StreamOrigin(NAME)
    assert replace(absent, origin=None) == fresh
    assert list(tmp_path.iterdir()) == []
    digests = set()
    for revision in range(1, 6):
        relay(tmp_path, 1, fresh)
        opened = open_stream(tmp_path, NAME, fresh)
        assert opened.origin is not None
        assert opened.origin.revision == revision
        digests.add(stream_digest(tmp_path, NAME))
    assert len(digests) == 5
    assert text_of(opened) == text_of(Harness().step(fresh, 5))


def test_everything_that_can_happen_survives(tmp_path: Path) -> None:
    harness = Harness()
    clip = torch.randn((1, 4, 3, 2, 3), generator=torch.Generator().manual_seed(0))
    state = open_stream(tmp_path, NAME, harness.fresh.start_with(clip))
    for event in range(8):
        edits: list[Callable[[StreamState], StreamState]] = [
            lambda s: harness.step(s, 2, prompt=1),
            lambda s: s.hold_anchor(2),
            lambda s: s.reset("window", clip),
            lambda s: harness.step(s, 1, prompt=2),
            lambda s: s.reset("anchor").flush(1),
            lambda s: s.recache(),
            lambda s: s.rewind(0),
            lambda s: s.blend(s, 0.5),
        ]
        changed = edits[event](state)
        assert changed.origin == state.origin
        state = commit_stream(tmp_path, changed)
        opened = open_stream(tmp_path, NAME, harness.fresh)
        assert text_of(opened) == text_of(state)
        assert (
            opened.origin
            == state.origin
            == replace(changed.origin, stream=opened.origin.stream, revision=event + 1)
        )


def test_the_origin_stays_out_of_state_files(root: Path, tmp_path: Path) -> None:
    state = open_stream(root, NAME, Harness().fresh)
    save_state(state, tmp_path / "a")
    assert load_state(tmp_path / "a").origin is None
    assert NAME.encode() not in (tmp_path / "a").read_bytes()


def chunk_bytes(state: StreamState) -> int:
    last = state.last_chunk
    assert last is not None
    assert last.content is not None
    assert last.state is not None
    return int(last.content.nbytes + last.state.nbytes)


def test_a_commit_writes_only_what_is_new(tmp_path: Path) -> None:
    harness = Harness(size=SIZE)
    added = []
    for _ in range(6):
        before = size_of(tmp_path / NAME)
        relay(tmp_path, 1, harness.fresh, harness=harness)
        added.append(size_of(tmp_path / NAME) - before)
    state = open_stream(tmp_path, NAME, harness.fresh)
    assert all(chunk_bytes(state) < one < chunk_bytes(state) + 2500 for one in added[1:])
    before = size_of(tmp_path / NAME)
    commit_stream(tmp_path, state.hold_anchor(1))
    assert size_of(tmp_path / NAME) - before < 1000  # no tensor at all


def test_many_commits_take_little_more_than_their_tensors(tmp_path: Path) -> None:
    start = StreamState((1, 16, 8, 8), ModelFingerprint("reference", 16, "0"))
    state, prompt, tensors = open_stream(tmp_path, NAME, start), text(0), 0
    for index in range(300):
        state = commit_stream(
            tmp_path, state.append_chunk(chunk(index, prompt), Conditions(prompt))
        )
        tensors += chunk_bytes(state)
    assert tensors < size_of(tmp_path / NAME) < 1.12 * tensors
    assert len(list((tmp_path / NAME).iterdir())) == 4
    assert (tmp_path / NAME / "manifest.json").stat().st_size < 1000


def test_a_commit_touches_neither_files_nor_entries_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = StreamState((1, 16, 8, 8), ModelFingerprint("reference", 16, "0"))
    state, prompt = open_stream(tmp_path, NAME, start), text(0)
    for index in range(20):
        state = commit_stream(
            tmp_path, state.append_chunk(chunk(index, prompt), Conditions(prompt))
        )
    digested: list[Tensor] = []
    monkeypatch.setattr("adastate_core.files.segments.tensor_digest", counted(digested))
    opened = open_stream(tmp_path, NAME, start)  # the process still knows this revision
    assert opened.events == state.events
    assert digested == []
    following = opened.append_chunk(chunk(20, prompt), Conditions(prompt))
    commit_stream(tmp_path, following)
    assert [x.shape[2] for x in digested] == [1, 3]
    digested.clear()
    again = open_stream(
        tmp_path, NAME, start
    )  # revision 20 is known, and what came after it is new
    assert again.chunk_index == 21
    assert [x.shape[2] for x in digested] == [1, 3]
    assert again.events[3] is opened.events[3]
    del again, opened, following, state
    digested.clear()
    assert open_stream(tmp_path, NAME, start).chunk_index == 21  # as after a restart
    assert len(digested) == 2 * 21 + 1


def test_a_bounded_history_is_bounded_on_disk(tmp_path: Path) -> None:
    harness = Harness(size=SIZE)
    start = replace(harness.fresh, history_chunks=2)
    files, sizes = [], []
    for _ in range(12):
        relay(tmp_path, 1, start, harness=harness)
        files.append(len(list((tmp_path / NAME).glob("segment.*"))))
        sizes.append(size_of(tmp_path / NAME))
    assert max(files) == files[-1] == 3  # two chunks, and the first segment for its prompt
    last = open_stream(tmp_path, NAME, start).last_chunk
    assert last is not None
    assert last.content is not None
    assert sizes[-1] - sizes[3] < last.content.nbytes


def test_a_large_bounded_history_has_few_files(tmp_path: Path) -> None:
    start = StreamState((1, 4, 1, 1), ModelFingerprint("reference", 4, "0"), history_chunks=64)
    state, prompt = open_stream(tmp_path, NAME, start), text(0)
    for index in range(200):
        entry = chunk(index, prompt, shape=(1, 4, 3, 1, 1))
        state = commit_stream(tmp_path, state.append_chunk(entry, Conditions(prompt)))
    assert len(list((tmp_path / NAME).glob("segment.*"))) <= 18
    del state
    opened = open_stream(tmp_path, NAME, start)
    remembered = [c.index for c in opened.chunks if c.content is not None]
    assert remembered == list(range(136, 200))


def test_what_a_rewind_takes_back_is_given_back(tmp_path: Path) -> None:
    harness = Harness(size=SIZE)
    state = commit_stream(tmp_path, harness.step(open_stream(tmp_path, NAME, harness.fresh), 2))
    short = size_of(tmp_path / NAME)
    state = commit_stream(tmp_path, harness.step(state, 8, prompt=1))
    state = commit_stream(tmp_path, state.rewind(1))
    assert size_of(tmp_path / NAME) < short + 8 * 2500  # of eight chunks the receipts are left
    state = commit_stream(tmp_path, harness.step(state, 1))
    expected = text_of(state)
    del state
    assert text_of(open_stream(tmp_path, NAME, harness.fresh)) == expected


def test_endless_rewinds_do_not_fill_the_folder(tmp_path: Path) -> None:
    start = StreamState((1, 4, 1, 1), ModelFingerprint("reference", 4, "0"))
    state, prompt = open_stream(tmp_path, NAME, start), text(0)
    state = commit_stream(
        tmp_path, state.append_chunk(chunk(0, prompt, (1, 4, 3, 1, 1)), Conditions(prompt))
    )
    files, sizes = [], []
    for _ in range(700):
        for index in (1, 2):
            entry = chunk(index, prompt, (1, 4, 3, 1, 1))
            state = commit_stream(tmp_path, state.append_chunk(entry, Conditions(prompt)))
        state = commit_stream(tmp_path, state.rewind(0))
        files.append(len(list((tmp_path / NAME).iterdir())))
        sizes.append(size_of(tmp_path / NAME))
    assert max(files) < 300
    assert sizes[-1] < max(sizes[:350]) * 1.1
    assert text_of(open_stream(tmp_path, NAME, start)) == text_of(state)


def test_of_two_commits_to_one_revision_the_second_is_refused(root: Path, tmp_path: Path) -> None:
    harness = Harness()
    state = open_stream(root, NAME, harness.fresh)
    first, second = harness.step(state, 1, seed=1), harness.step(state, 1, seed=2)
    committed = commit_stream(root, first)
    for _ in range(2):
        with pytest.raises(
            StateMismatchError,
            match=r"Another run .*: it is at revision 4.*Save",
        ):
            commit_stream(root, second)
    assert text_of(open_stream(root, NAME, state)) == text_of(committed)
    save_state(second, tmp_path / "kept")  # what the message advises
    assert text_of(load_state(tmp_path / "kept")) == text_of(second)
    fresh = open_stream(root, "other", harness.fresh)
    commit_stream(root, fresh)
    with pytest.raises(
        StateMismatchError, match=r'^Another run has begun the stream "other" first'
    ):
        commit_stream(root, fresh)
    with pytest.raises(
        StateMismatchError, match=r"^This stream has no name. Begin it with Open Stream"
    ):
        commit_stream(root, harness.fresh)


@pytest.mark.parametrize("name", [NAME, "x" * 100, "\u6c34" * 79, "a.b"])
def test_what_could_not_be_committed_is_kept(tmp_path: Path, name: str) -> None:
    root, harness = tmp_path / "streams", Harness()
    state = harness.step(open_stream(root, name, harness.fresh), 1)
    assert commit_or_keep(root, state, tmp_path).origin == commit_origin(root, name)
    for number in (1, 2):
        with pytest.raises(StateMismatchError, match=r"^Another run has begun the stream") as error:
            commit_or_keep(root, state, tmp_path)
        (*_, kept) = sorted(root.glob("*.safetensors"))
        assert kept.name.endswith(f".refused_{number:05d}.adastate.safetensors")
        assert str(kept) in str(error.value)
        assert text_of(load_state(kept)) == text_of(state)
    assert open_stream(root, name, harness.fresh).chunk_index == 1
    with pytest.raises(
        StateMismatchError, match=r"^This stream has no name. Begin it with Open Stream"
    ):
        commit_or_keep(root, harness.fresh, tmp_path)


def commit_origin(root: Path, name: str) -> StreamOrigin | None:
    return open_stream(root, name, Harness().fresh).origin


def test_it_is_kept_elsewhere_or_the_artist_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, harness = tmp_path / "streams", Harness()
    state = harness.step(open_stream(root, NAME, harness.fresh), 1)
    root.write_text("in the way")
    with pytest.raises(StateFileError) as error:
        commit_or_keep(root, state, tmp_path)
    (kept,) = tmp_path.glob("*.safetensors")
    assert str(kept) in str(error.value)
    assert text_of(load_state(kept)) == text_of(state)
    kept.unlink()

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    root.unlink()
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(StateFileError, match=r"No space left.*Save State.*\(.*No space left"):
        commit_or_keep(root, state, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "streams", NAME]


def test_a_folder_that_is_gone_or_another_one_is_refused(root: Path) -> None:
    state = open_stream(root, NAME, Harness().fresh)
    shutil.rmtree(root / NAME)
    with pytest.raises(StateMismatchError, match="has gone since it was opened"):
        commit_stream(root, state)
    assert not (root / NAME).exists()
    relay(root, 3, Harness().fresh)
    with pytest.raises(StateMismatchError, match="is another one than"):
        commit_stream(root, state)


def test_one_of_many_threads_wins(root: Path) -> None:
    state = open_stream(root, NAME, Harness().fresh)
    outcomes: list[type[object]] = []

    def commit() -> None:
        try:
            outcomes.append(type(commit_stream(root, state.hold_anchor(1))))
        except StateMismatchError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=commit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(o.__name__ for o in outcomes) == ["StateMismatchError"] * 7 + ["StreamState"]
    assert open_stream(root, NAME, state).origin == replace(state.origin, revision=4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "has no name"),
        (None, "is not text"),
        ("a/b", "no / or"),
        ("a\\b", "no / or"),
        ("/", "no / or"),
        ("..", "a dot or a space"),
        (".", "a dot or a space"),
        (".hidden", "a dot or a space"),
        ("end.", "a dot or a space"),
        (" a", "a dot or a space"),
        ("a ", "a dot or a space"),
        ("a..b", "two dots"),
        ("a\nb", "letters, digits"),
        ("a\0b", "letters, digits"),
        ("a:b", "letters, digits"),
        ("a\u202eb", "letters, digits"),
        ("\ud800", "letters, digits"),
        ("x" * 101, "too long: 101 characters"),
        ("\u6c34" * 90, "too long: 90 characters"),
        *(
            (device, "Windows keeps the name")
            for device in ("CON", "nul", "COM1.txt", "Lpt9", "aux.a.b")
        ),
        ("COM\u00b9", "Windows keeps the name"),
        ("con .x", "Windows keeps the name"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    for act in (
        lambda: open_stream(tmp_path, name, Harness().fresh),
        lambda: stream_digest(tmp_path, name),
        lambda: commit_stream(tmp_path, replace(Harness().fresh, origin=StreamOrigin(name))),
    ):
        with pytest.raises(ConfigError, match=message) as error:
            act()
        assert str(error.value).count("\n") == 0
        assert "Change name on Open Stream" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_good_names_are_kept(tmp_path: Path) -> None:
    for name in ("a", "Walk 2.1_b-c", "x" * 100, "\u6c34\u3068\u706b", "console", "com10", "v1.0"):
        assert check_name(name) == name
        commit_stream(tmp_path, open_stream(tmp_path, name, Harness().fresh))
        assert (tmp_path / name / "manifest.json").is_file()
    assert check_name("a\u0308") == "\u00e4"  # one spelling, however it was typed
