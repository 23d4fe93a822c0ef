"""Image-to-video weights: which frames see the image, on ComfyUI's real Wan and Hunyuan classes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, conditioning
from tests.support.straight_line import Context, StraightLine
from tests.support.tiny_models import WAN_22_I2V, WAN_I2V

IMAGE_FRAMES, CHUNKS = 4, 3
SIGMAS = (1.0, 0.6, 0.0)


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN_22_I2V)


def with_image(prompt: int, image: Tensor, given: int = 1) -> list[Any]:
    """Return what WanImageToVideo makes of a prompt and an encoded image and its empty frames."""
    mask = torch.ones((1, 1, *image.shape[2:]))
    mask[:, :, :given] = 0.0
    text, extras = conditioning(prompt)[0]
    return [[text, {**extras, "concat_latent_image": image, "concat_mask": mask}]]


def picture(seed: int, frames: int = IMAGE_FRAMES) -> Tensor:
    return torch.randn((1, 16, frames, 4, 6), generator=torch.Generator().manual_seed(seed))


def step(harness: NodeHarness, state: Any, chunks: int, positive: list[Any], **changes: Any) -> Any:
    import comfy.samplers

    inputs = {
        "model": harness.model,
        "state": state,
        "positive": positive,
        "cfg": 1.0,
        "seed": 7,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor(SIGMAS),
        "chunks": chunks,
    }
    return harness.run("AdaStateStream", **{**inputs, **changes})[0]


def joined(harness: NodeHarness, image: Tensor, frames: list[int | None]) -> Tensor:
    """Write out what the model gets beside each frame: mask, then image; None for the state."""
    image = harness.model.get_model_object("latent_format").process_in(image)
    rows = []
    for frame in frames:
        row = torch.zeros((1, 20, 1, 4, 6))
        if frame is not None:
            shown = min(frame, IMAGE_FRAMES - 1)
            row[:, :4] = 1.0 if shown == 0 else 0.0
            row[:, 4:] = image[:, :, shown : shown + 1]
        rows.append(row)
    return torch.cat(rows, dim=2)


def test_every_frame_gets_its_own_image(harness: NodeHarness, core: Any) -> None:
    """Against the model written out, past the end of the image; the state gets none."""
    import importlib

    noise_of = importlib.import_module(f"{core.__name__}.rollout.noise").BlockNoise
    image, places = picture(1), [0, 4, 5, 6]
    state = step(harness, harness.fresh(), CHUNKS, with_image(0, image))
    dit = harness.model.get_model_object("diffusion_model")
    line = StraightLine(dit, conditioning(0)[0][0])
    context: list[Context] = []
    with torch.inference_mode():
        for k in range(CHUNKS):
            beside = joined(harness, image, [None, *range(3 * k, 3 * k + 3)])
            noise = noise_of(7, k, (1, 16, 4, 4, 6), 1)
            x = noise.initial().video
            for sigma, following in pairwise(SIGMAS):
                given = torch.cat((x, beside), dim=1)
                x = x - sigma * line.velocity(given, sigma, places, context)[0]
                if following:
                    x = (1 - following) * x + following * noise.renoise(x).video
            _, written = line.velocity(torch.cat((x, beside), dim=1), 0.0, places, context)
            context = [list(zip(new, (0, 1, 2, 3), strict=True)) for new in written]
            made = torch.cat((state.chunks[k].state, state.chunks[k].content), dim=2)
            torch.testing.assert_close(made, x, atol=1e-5, rtol=0)


def test_the_image_matters_only_where_it_is(harness: NodeHarness) -> None:
    image, other = picture(1), picture(1)
    other[:, :, 3] += 1.0  # the first frame of chunk 1, and all beyond the end
    a, b = (step(harness, harness.fresh(), 2, with_image(0, each)) for each in (image, other))
    assert torch.equal(a.chunks[0].content, b.chunks[0].content)
    assert not torch.equal(a.chunks[1].content, b.chunks[1].content)


def test_a_start_image_takes_the_first_place(harness: NodeHarness) -> None:
    """The encoded image committed as frame 0: chunk 0 begins at frame 1 of the image's clip."""
    start = {"samples": picture(2, 1)}
    (state,) = harness.run(
        "AdaStateNewStream", {"samples": torch.zeros((1, 16, 1, 4, 6))}, 0, start
    )
    after = step(harness, state, 2, with_image(0, picture(1)))
    assert [chunk.frame for chunk in after.chunks] == [1, 4]
    fresh = step(harness, harness.fresh(), 2, with_image(0, picture(1)))
    assert [chunk.frame for chunk in fresh.chunks] == [0, 3]


def test_replay_after_edits_sees_the_same_images(harness: NodeHarness) -> None:
    positive = with_image(0, picture(1))
    state = step(harness, harness.fresh(), 2, positive)
    (flushed,) = harness.run("AdaStateReset", state, "window")
    (begun,) = harness.run("AdaStateReset", state, "all")
    for edited, frame in ((state, 6), (flushed, 6), (begun, 0)):
        warm = step(harness, edited, 2, positive)
        assert warm.chunks[2].frame == frame
        (cold,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
        assert torch.equal(step(harness, edited, 2, positive, model=cold).content(), warm.content())


def test_what_clip_vision_saw_is_recorded(node_classes: dict[str, Any], tiny_models: Path) -> None:
    from comfy.clip_vision import Output

    harness = NodeHarness(node_classes, WAN_I2V)

    def positive(seed: int) -> list[Any]:
        seen = Output()
        source = torch.Generator().manual_seed(seed)
        seen["penultimate_hidden_states"] = torch.randn((1, 257, 1280), generator=source)
        seen["image_sizes"] = [(224, 224, 3)]
        given = with_image(0, picture(1))
        given[0][1]["clip_vision_output"] = seen
        return given

    state = step(harness, harness.fresh(), 2, positive(1))
    other = step(harness, harness.fresh(), 2, positive(2))
    assert not torch.equal(state.content(), other.content())
    (cold,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    warm = step(harness, state, 1, positive(1))
    again = step(harness, state, 1, positive(1), model=cold)
    assert torch.equal(warm.content(), again.content())


def test_no_image_and_frames_of_their_own_are_refused(harness: NodeHarness) -> None:
    with pytest.raises(ValueError, match=r"^Image-to-video model: there is no image in positive"):
        step(harness, harness.fresh(), 1, conditioning(0))
    with pytest.raises(ValueError, match="there is no image in negative"):
        step(
            harness,
            harness.fresh(),
            1,
            with_image(0, picture(1)),
            negative=conditioning(1),
            cfg=3.0,
        )
    keyed = with_image(0, picture(1))
    keyed[0][1]["reference_latents"] = [picture(3)]
    with pytest.raises(
        ValueError, match=r"^Positive brings pictures of its own \(reference_latents\)"
    ):
        step(harness, harness.fresh(), 1, keyed)


def test_the_host_leaves_the_recorded_image_alone(harness: NodeHarness) -> None:
    image = picture(1)
    state = step(harness, harness.fresh(), 2, with_image(0, image.clone()))
    (recorded,) = state.conditionings.values()
    assert torch.equal(recorded.unpack()[0][1]["concat_latent_image"], image)
