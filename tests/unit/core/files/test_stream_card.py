"""Cards of named streams: what is shown without reading a tensor."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from adastate_core.errors import ConfigError
from adastate_core.files import stream_card
from adastate_core.files.named_stream import commit_stream, open_stream
from adastate_core.files.stream_card import THUMBNAIL, read_card
from adastate_core.files.stream_shelf import list_streams
from tests.support.named_streams import NAME
from tests.support.reference_host import Harness

V1 = Path(__file__).parents[3] / "data" / "v1"


def test_it_says_how_far_a_stream_is(root: Path) -> None:
    card = read_card(root, NAME)
    assert card is not None
    state = open_stream(root, NAME, Harness().fresh)
    last = state.last_chunk
    assert last is not None
    assert (card.name, card.revision, card.chunks) == (NAME, 3, 3)
    assert card.latent_frames == 3 * last.config.chunk_frames
    assert card.latent_format == state.latent_format
    assert card.size == sum(path.stat().st_size for path in (root / NAME).iterdir())
    assert card.changed == pytest.approx(time.time(), abs=600)
    assert (card.thumbnail, card.problem) == (0, "")


def test_it_follows_a_rewind_and_what_is_no_chunk(root: Path) -> None:
    state = open_stream(root, NAME, Harness().fresh).rewind(-2)
    state = commit_stream(root, state)
    for chunks in range(3):
        state = commit_stream(root, state.hold_anchor(chunks))
    card = read_card(root, NAME)
    assert card is not None
    assert card.chunks == state.chunk_index
    assert card.latent_frames


def test_a_long_end_without_a_chunk_is_read_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = open_stream(root, NAME, Harness().fresh)
    for chunks in range(4):
        state = commit_stream(root, state.hold_anchor(chunks))
    log = next((root / NAME).glob("log.*")).stat().st_size
    monkeypatch.setattr(stream_card, "_TAILS", (40, 900, log))
    assert read_card(root, NAME) == list_streams(root)[0]
    assert read_card(root, NAME).latent_frames  # type: ignore[union-attr]
    monkeypatch.setattr(stream_card, "_TAILS", (40,))  # not a line of it
    card = read_card(root, NAME)
    assert card is not None
    assert (card.revision, card.chunks, card.problem) == (7, None, "")


def test_a_thumbnail_is_no_part_of_the_stream(root: Path) -> None:
    (root / NAME / THUMBNAIL).write_bytes(b"moving")
    state = open_stream(root, NAME, Harness().fresh)
    commit_stream(root, state.hold_anchor(1))
    assert (root / NAME / THUMBNAIL).read_bytes() == b"moving"
    card = read_card(root, NAME)
    assert card is not None
    assert card.thumbnail == (root / NAME / THUMBNAIL).stat().st_mtime_ns


def test_there_is_none_of_what_is_no_stream(root: Path) -> None:
    assert read_card(root, "nothing") is None
    (root / "empty").mkdir()
    assert read_card(root, "empty") is None
    with pytest.raises(ConfigError):
        read_card(root, "../walk")


@pytest.mark.parametrize("damage", ["manifest", "segment", "log", "garbled", "link"])
def test_a_damaged_stream_has_a_card_that_says_so(root: Path, tmp_path: Path, damage: str) -> None:
    folder = root / NAME
    if damage == "manifest":
        (folder / "manifest.json").write_text("{}")
    elif damage == "link":
        moved = (folder / "manifest.json").rename(tmp_path / "moved")
        (folder / "manifest.json").symlink_to(moved)
    elif damage == "garbled":
        log = next(folder.glob("log.*"))
        log.write_bytes(b"\xff" * log.stat().st_size)
    else:
        next(folder.glob(f"{damage}.*")).unlink()
    (card,) = list_streams(root)
    assert card.name == NAME
    assert "estore" in card.problem or "update AdaState" in card.problem
    assert card.size > 0


def test_five_hundred_streams_are_listed_at_once(root: Path) -> None:
    for number in range(500):
        shutil.copytree(root / NAME, root / f"stream {number}")
    begin = time.perf_counter()
    cards = list_streams(root)
    assert time.perf_counter() - begin < 5  # 0.4 s on a slow machine; a loaded one is slower
    assert len(cards) == 501
    assert {card.chunks for card in cards} == {3}


def test_a_stream_of_version_1_is_listed(root: Path) -> None:
    for folder in (path.parent for path in V1.rglob("manifest.json")):
        shutil.copytree(folder, root / "older")
        card = read_card(root, "older")
        assert card is not None
        assert card.revision == json.loads((folder / "manifest.json").read_text())["revision"]
        assert (card.chunks, card.problem) == (None, "")
        return
    pytest.fail("no stream of version 1 to read")
