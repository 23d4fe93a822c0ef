"""Thumbnails of named streams: made with every commit, and never in its way."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.nodes.test_named_streams import committed, opened
from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture
def folder(base_dir: Path) -> Iterator[Path]:
    """Return the folder of the stream, which does not exist yet."""
    streams = base_dir / "output" / "adastate" / "streams"
    yield streams / "walk"
    shutil.rmtree(streams, ignore_errors=True)


def commit_one_more(harness: NodeHarness) -> None:
    state, _ = harness.step(opened(harness)[0])
    committed(harness, state)


def test_it_moves_and_follows_the_stream(harness: NodeHarness, folder: Path) -> None:
    seen = set()
    for _ in range(2):
        commit_one_more(harness)
        seen.add((folder / "thumbnail.webp").read_bytes())
        with Image.open(folder / "thumbnail.webp") as picture:
            assert picture.format == "WEBP"
            assert picture.n_frames == 3
            assert picture.info["loop"] == 0
    assert len(seen) == 2
    assert not list(folder.glob("*.partial"))
    assert not list(folder.glob(".*.partial"))


def test_it_is_the_tile_that_a_panel_shows_of_the_chunk(
    harness: NodeHarness, folder: Path, base_dir: Path
) -> None:
    """Where a VAE decoded it, the tile has the truer colours."""
    from comfy_api.latest import io

    harness.hidden = {io.Hidden.unique_id: "7"}
    try:
        state, _ = harness.step(opened(harness)[0])
    finally:
        harness.hidden = {}
    tiles = [p for p in (base_dir / "temp").rglob("*.webp") if "_hidden" not in p.name]
    shown = [p for p in tiles if p.name.startswith(state.last_chunk.latents[:16])]
    committed(harness, state)
    assert (folder / "thumbnail.webp").read_bytes() in [p.read_bytes() for p in shown]


@pytest.mark.parametrize("obstacle", ["folder", "link", "error"])
def test_what_is_in_its_way_does_not_stop_a_commit(
    harness: NodeHarness,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: str,
) -> None:
    commit_one_more(harness)
    thumbnail, outside = folder / "thumbnail.webp", tmp_path / "outside"
    thumbnail.unlink()
    outside.write_text("mine")
    if obstacle == "folder":
        (thumbnail / "inside").mkdir(parents=True)
    elif obstacle == "link":
        thumbnail.symlink_to(outside)
    else:
        thumbnails = importlib.import_module("adastate_pack.adastate_comfy.thumbnails")
        monkeypatch.setattr(thumbnails, "moving", lambda *_: 1 / 0)
    commit_one_more(harness)
    assert opened(harness)[1] == 2
    assert outside.read_text() == "mine"
    assert not list(folder.glob(".*.partial"))
    if obstacle == "link":
        assert not thumbnail.is_symlink()
