"""How a render goes on with what a stream remembers, and how much of it that stays."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness
from tests.support.rendered import luma, luma_of, receipts
from tests.support.tiny_models import WAN

CHUNK_FRAMES = 12


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


def test_a_second_file_goes_on_where_the_first_ended(
    harness: NodeHarness, vae: Any, render: Any, output: Path
) -> None:
    state, _ = render(harness.fresh(), 2, crf=0.0)
    render(state, 2, crf=0.0)
    whole, _ = harness.step(harness.fresh(), 4)
    (shown, _) = harness.run("AdaStateDecode", vae, whole, 0, 0, True)
    first, second = sorted(output.glob("*.mp4"))
    joined = torch.cat((luma(first), luma(second)))
    torch.testing.assert_close(joined, luma_of(shown), atol=0.01, rtol=0)
    assert [r["frames"] for r in receipts(second) if r["event"] == "chunk"] == [[0, 11], [12, 23]]


@pytest.mark.newest
def test_the_default_history_reaches_as_far_as_the_decoder_looks_back(
    harness: NodeHarness, vae: Any, render: Any, output: Path
) -> None:
    """The whole stream decoded at once, and its last chunk from what is remembered then."""
    whole, _ = harness.step(harness.fresh(), 16)
    (shown, _) = harness.run("AdaStateDecode", vae, whole, 15, 1, True)

    def last_chunk(history: dict[str, int]) -> Tensor:
        begun, _ = render(harness.fresh(), 15, **history)
        render(begun, 1, crf=0.0)
        return luma(max(output.glob("*.mp4")))

    torch.testing.assert_close(last_chunk({}), luma_of(shown), atol=0.01, rtol=0)
    assert (last_chunk({"history_chunks": 1}) - luma_of(shown)).abs().max() > 0.02


@pytest.mark.parametrize("include_start", [True, False])
def test_a_clip_is_continued(
    harness: NodeHarness, vae: Any, render: Any, output: Path, include_start: bool
) -> None:
    clip = harness.latent(5, seed=5)
    render(harness.fresh(start_latent=clip), 2, crf=0.0, include_start=include_start)
    state, _ = harness.step(harness.fresh(start_latent=clip), 2)
    (shown, _) = harness.run("AdaStateDecode", vae, state, 0, 0, True)
    begin = 0 if include_start else 1 + 4 * 4
    found = luma(next(output.glob("*.mp4")))
    torch.testing.assert_close(found, luma_of(shown)[begin:], atol=0.02, rtol=0)


@pytest.mark.newest
def test_history_is_bounded_unless_it_is_asked_for(harness: NodeHarness, render: Any) -> None:
    bounded, _ = render(harness.fresh(), 4, history_chunks=2)
    whole, _ = render(harness.fresh(), 4, history_chunks=0)
    assert (remembered(bounded), remembered(whole)) == (2, 4)
    assert torch.equal(bounded.newest_content(), whole.newest_content())


def remembered(state: Any) -> int:
    return sum(entry.content is not None for entry in state.chunks)


@pytest.mark.newest
def test_a_render_never_lowers_what_is_remembered(harness: NodeHarness, render: Any) -> None:
    begun, _ = harness.step(harness.fresh(), 15)
    state, _ = render(begun, 2)
    assert (remembered(state), state.history_chunks) == (17, 15 + 13)
    assert render(harness.fresh(history=20), 1)[0].history_chunks == 20
    # What an artist chooses counts.
    assert remembered(render(begun, 1, history_chunks=5)[0]) == 5
    assert render(begun, 1, history_chunks=0)[0].history_chunks == 0


@pytest.mark.newest
def test_a_named_stream_forgets_nothing(harness: NodeHarness, render: Any, base_dir: Path) -> None:
    (opened, _) = harness.run("AdaStateOpenStream", "rendered", harness.fresh())
    for made in (15, 16):
        state, _ = render(opened, made - opened.chunk_index)
        harness.run("AdaStateCommitStream", [state])
        (opened, _) = harness.run("AdaStateOpenStream", "rendered", harness.fresh())
        assert (remembered(opened), opened.history_chunks) == (made, 0)
    # Unless the artist says so.
    state, _ = render(opened, 1, history_chunks=4)
    harness.run("AdaStateCommitStream", [state])
    (opened, _) = harness.run("AdaStateOpenStream", "rendered", harness.fresh())
    assert (remembered(opened), opened.history_chunks) == (4, 4)


@pytest.mark.newest
@pytest.mark.parametrize("chunk_frames", [1, 5])
def test_short_chunks_join_as_well(
    harness: NodeHarness, vae: Any, render: Any, output: Path, chunk_frames: int
) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", chunk_frames, 3, 1, 3)
    chunks = 44 // chunk_frames
    whole, _ = harness.step(harness.fresh(), chunks + 1, model=model)
    (shown, _) = harness.run("AdaStateDecode", vae, whole, chunks, 1, True)
    begun, _ = render(harness.fresh(), chunks, model=model)
    assert remembered(begun) * chunk_frames >= 39
    render(begun, 1, model=model, crf=0.0)
    found = luma(max(output.glob("*.mp4")))
    torch.testing.assert_close(found, luma_of(shown), atol=0.01, rtol=0)


@pytest.mark.newest
def test_a_seam_is_said(
    pack: Any, harness: NodeHarness, render: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = importlib.import_module(f"{pack.__name__}.adastate_comfy.progress")
    said: list[str] = []
    monkeypatch.setattr(progress, "write_under", lambda _, text: said.append(text))
    state, _ = render(harness.fresh(), 3, history_chunks=2)
    assert "to continue this video without a seam, raise history_chunks" in said[-1]
    render(state, 1)
    assert "the beginning may not join the video before without a seam" in said[-1]
    render(harness.fresh(), 3)
    assert said[-1] == "33 frames, 2.1 s"
