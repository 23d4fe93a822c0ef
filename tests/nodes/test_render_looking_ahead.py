"""A render with a VAE that looks at what follows: LTX-Video, whose chunks come out in pieces."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.families import CASES, HEIGHT, WIDTH, fresh
from tests.support.harness import NodeHarness
from tests.support.rendered import luma, luma_of, receipts
from tests.support.tiny_vaes import ltx_2_video

CASE = CASES["ltxv"]
OPTIONS: dict[str, Any] = {"positive": CASE.conditioning(0), "crf": 0.0}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, CASE.model)


@pytest.fixture(scope="module")
def vae() -> Any:
    return ltx_2_video()


def test_every_picture_is_in_the_file_with_its_chunk(
    harness: NodeHarness, vae: Any, video: Any, render: Any, output: Path
) -> None:
    state, _ = render(fresh(harness, CASE), 4, **OPTIONS)
    decoder = video.decoders.open_decoder(vae, (1, 128, 3, HEIGHT, WIDTH))
    assert decoder.held_back > 3
    decoder.load()
    latents = harness.run("AdaStateRead", state)[2]["samples"]
    pieces = [decoder.decode(part)[0] for part in latents.split(3, dim=2)]
    assert len(pieces[0]) == 0
    shown = torch.cat((*pieces, decoder.flush()[0]))
    (path,) = output.glob("*.mp4")
    torch.testing.assert_close(luma(path), luma_of(shown), atol=0.012, rtol=0)
    frames = [event["frames"] for event in receipts(path) if event["event"] == "chunk"]
    assert frames == [[0, 16], [17, 40], [41, 64], [65, 88]]


def test_a_second_file_begins_with_the_next_picture(
    harness: NodeHarness, vae: Any, render: Any, output: Path
) -> None:
    begun, _ = render(fresh(harness, CASE), 3, **OPTIONS)
    state, _ = render(begun, 2, **OPTIONS)
    images, _ = harness.run("AdaStateDecode", vae, state)
    first, second = (luma(path) for path in sorted(output.glob("*.mp4")))
    assert (len(first), len(second)) == (65, 48)
    # Both decode the same latents with others around them.
    torch.testing.assert_close(second, luma_of(images)[65:], atol=0.1, rtol=0)
    assert (second - luma_of(images)[65:]).abs().mean() < 0.01


def test_an_audio_vae_has_nothing_to_do_in_a_silent_stream(
    pack: Any, harness: NodeHarness, vae: Any, render: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = importlib.import_module(f"{pack.__name__}.adastate_comfy.progress")
    said: list[str] = []
    monkeypatch.setattr(progress, "write_under", lambda _, text: said.append(text))
    render(fresh(harness, CASE), 1, **OPTIONS, audio_vae=vae)
    assert "the video is silent, since this stream has no sound" in said[-1]
    render(fresh(harness, CASE), 1, **OPTIONS)
    assert "silent" not in said[-1]
