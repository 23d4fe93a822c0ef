"""What training keeps is read: its latents as examples, its weights as streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.measure.evaluate import fixed_pairs
from training.measure.figures import place_of
from training.measure.lessons import TRAINING_STEP, training_examples
from training.measure.space import Space
from training.measure.streams import Row, TrainedStreams
from training.vae import ClipVAE

clips = pytest.importorskip("training.anchors.clips")
runs = pytest.importorskip("training.anchors.runs")
streaming = pytest.importorskip("training.anchors.streaming")


def test_latents_of_training_teach_with_the_truth_of_their_clips(tmp_path: Path) -> None:
    mean, std = torch.arange(16.0), torch.full((16,), 2.0)
    space = Space(ClipVAE(4).eval(), mean, std, "tiny")
    content = torch.randn(8, 16, 18, 14, 24, generator=torch.Generator().manual_seed(0))
    raw = space.raw(content)
    save_file({"content": raw.half()}, tmp_path / "shard_00003.safetensors")
    (found,) = training_examples(tmp_path, space)
    starts = len(range(0, 16, TRAINING_STEP))
    assert len(found) == 8 * starts
    assert torch.allclose(found.latents[1].float(), content[0, :, 2:5], atol=0.03)
    clip = clips.Clip.draw(3 * 8 + 5)
    first = place_of(found.wanted["place"][5 * starts : 5 * starts + 1].double().numpy())[0]
    # The middle frame of a clip's first run stands for pictures 1 to 4.
    told = streaming_place(clip, clip.begin + 2.5)
    assert np.isclose(first, told, atol=0.5)


def streaming_place(clip: object, time: float) -> float:
    from training.panorama.journey import truth

    journey = clip.journey  # type: ignore[attr-defined]
    told = truth([journey], torch.tensor([[time]]))
    return float((told.place[0, 0] + journey.departure) % 2880.0)


def test_streams_are_those_of_training_and_named_by_all_they_depend_on(tmp_path: Path) -> None:
    params = runs.start_params()
    tensors = {name: value.contiguous().clone() for name, value in params.items()}
    save_file(tensors, tmp_path / "average.safetensors")
    pairs = fixed_pairs(2)
    prompts, seeds = [prompt for prompt, _ in pairs], [seed for _, seed in pairs]
    # A run is a folder; its average may be named as well.
    source = TrainedStreams(Row("ours", "frozen", tmp_path), 1, 1.0, 8)
    made = source(prompts, seeds, 1)
    weights = streaming.Weights.load(tmp_path)
    wanted, _ = streaming.stream(weights, "frozen", prompts, seeds, 1, steps=1, cfg=1.0)
    assert torch.equal(made, wanted)
    file = tmp_path / "average.safetensors"
    assert TrainedStreams(Row("x", "frozen", file), 1, 1.0, 2).digest == source.digest
    assert TrainedStreams(Row("x", "none", file), 1, 1.0, 8).digest != source.digest
    assert TrainedStreams(Row("x", "frozen", file), 2, 1.0, 8).digest != source.digest
    with pytest.raises(ValueError, match="names no file of weights"):
        TrainedStreams(Row("x", "frozen"), 1, 1.0, 8)
    with pytest.raises(ValueError, match="add --through-nodes"):
        TrainedStreams(Row("x", "frozen", file, file), 1, 1.0, 8)
