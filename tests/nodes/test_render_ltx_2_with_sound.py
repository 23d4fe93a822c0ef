"""Render Stream to Video with sound, of LTX-2: a short first frame, and a rate that prompts say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.rendered import luma
from tests.support.sound_streams import empty_ltx2, ltx2_model, ltx2_text
from tests.support.sounding import played
from tests.support.tiny_models import LTX2
from tests.support.tiny_vaes import ltx_2_sound, ltx_2_video


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, LTX2)


@pytest.fixture(scope="module")
def vaes() -> dict[str, Any]:
    return {"vae": ltx_2_video(), "audio_vae": ltx_2_sound()}


def render(
    harness: NodeHarness, model: Any, vaes: Any, state: Any, chunks: int, **options: Any
) -> Any:
    import comfy.samplers

    sampling = model.get_model_object("model_sampling")
    inputs = {
        "model": model,
        "cfg": 1.0,
        "seed": 3,
        "sampler": comfy.samplers.sampler_object("euler"),
        "sigmas": comfy.samplers.calculate_sigmas(sampling, "simple", 2),
        "crf": 0.0,
        **vaes,
    }
    return harness.run("AdaStateRender", state=state, chunks=chunks, **{**inputs, **options})[0]


def alike(heard: Tensor, expected: Tensor) -> float:
    length = min(heard.shape[1], expected.shape[1])
    pair = (heard[:, :length].flatten(), expected[:, :length].flatten())
    return float(torch.nn.functional.cosine_similarity(*pair, dim=0))


def test_files_that_continue_each_other_hold_what_decode_gives(
    harness: NodeHarness, vaes: Any, output: Path
) -> None:
    rate, model = 24, ltx2_model(harness)
    options = {
        "positive": ltx2_text(0, frame_rate=float(rate)),
        "fps": float(rate),
        "filename_prefix": f"{output.name}/video",
    }
    (state,) = harness.run("AdaStateNewStream", empty_ltx2(), 0)
    state = render(harness, model, vaes, state, 3, **options)
    state = render(harness, model, vaes, state, 2, **options)
    images, audio = harness.run("AdaStateDecode", vaes["vae"], state, audio_vae=vaes["audio_vae"])
    sound, hertz = audio["waveform"][0], audio["sample_rate"]
    assert len(images) == 8 * 15 - 7
    first, second = sorted(output.glob("*.mp4"))
    counts = [len(luma(path)) for path in (first, second)]
    assert counts == [8 * 9 - 7, 8 * 6]
    parts = [torch.from_numpy(played(path.read_bytes())) for path in (first, second)]
    for count, part in zip(counts, parts, strict=True):
        assert abs(part.shape[1] / hertz - count / rate) < 1 / rate
    joined = torch.cat(parts, dim=1)
    # In step to the end: with a frame between them they are less alike.
    assert alike(parts[0][:, : 2 * hertz], sound[:, : 2 * hertz]) > 0.85
    late = counts[0] * hertz // rate + hertz // 10
    found = alike(joined[:, late : late + hertz], sound[:, late : late + hertz])
    assert found > 0.85
    shifted = sound[:, late + hertz // rate :]
    assert alike(joined[:, late : late + hertz], shifted[:, :hertz]) < found - 0.1


def test_another_rate_than_that_of_the_prompts_is_refused(
    harness: NodeHarness, vaes: Any, output: Path, core: Any
) -> None:
    (state,) = harness.run("AdaStateNewStream", empty_ltx2(), 0)
    with pytest.raises(core.AdaStateError, match="fps"):
        render(
            harness,
            ltx2_model(harness),
            vaes,
            state,
            1,
            positive=ltx2_text(0, frame_rate=24.0),
            fps=16.0,
            filename_prefix=f"{output.name}/video",
        )
    assert not list(output.glob("*.mp4"))
