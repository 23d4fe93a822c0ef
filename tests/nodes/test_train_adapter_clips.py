"""Clips as training has them: what the state of a chunk is to show, sizes, and videos."""

from __future__ import annotations

import importlib
from fractions import Fraction
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN, WAN_22_5B
from tests.support.training import moving_clip, train


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(scope="module")
def encode(pack: Any, vae: Any) -> Any:
    """Return what encodes a clip for a MODEL."""
    clips, binding = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.{name}")
        for name in ("training.clips", "model.binding")
    )

    def run(model: Any, clip: Any, width: int = 0, height: int = 0, number: int = 1) -> Any:
        bound = binding.bound_model(model)
        with torch.inference_mode():
            plan = clips.plan_clip(clip, number, vae, bound, width, height)
            return clips.encode_clip(plan, vae, bound, 0)

    return run


def in_model_space(harness: NodeHarness, vae: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        form = harness.bare.get_model_object("latent_format")
        made: torch.Tensor = form.process_in(vae.encode(images)).clone()
    return made


def test_a_state_is_the_last_picture_of_its_chunk(
    harness: NodeHarness, vae: Any, encode: Any
) -> None:
    images = moving_clip(32)  # two chunks of 9 and 12 pictures, and 11 that are no third
    clip = encode(harness.model, images)
    assert clip.content.shape[2] == 6
    assert clip.state.shape[2] == 2
    torch.testing.assert_close(clip.content, in_model_space(harness, vae, images[:21]))
    for chunk, last in enumerate((8, 20)):
        alone = in_model_space(harness, vae, images[last : last + 1])
        torch.testing.assert_close(clip.state[:, :, chunk : chunk + 1], alone)
    assert not clip.content.is_inference()
    assert not clip.state.is_inference()


def test_several_states_are_spread_over_their_chunk(
    harness: NodeHarness, vae: Any, encode: Any
) -> None:
    images = moving_clip()
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 3, 3)
    clip = encode(model, images)
    assert clip.state.shape[2] == 6
    for number, picture in enumerate((2, 5, 8, 12, 16, 20)):
        alone = in_model_space(harness, vae, images[picture : picture + 1])
        torch.testing.assert_close(clip.state[:, :, number : number + 1], alone)


def test_an_anchor_without_a_state_has_no_target(harness: NodeHarness, encode: Any) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "frozen", 3, 3, 1, 3)
    assert encode(model, moving_clip()).state is None


@pytest.mark.parametrize(
    ("width", "height", "latent"),
    [(0, 0, (4, 6)), (32, 0, (2, 4)), (0, 64, (8, 12)), (32, 32, (4, 4)), (50, 35, (4, 6))],
)
def test_clips_are_scaled_to_whole_patches(
    harness: NodeHarness, encode: Any, width: int, height: int, latent: tuple[int, int]
) -> None:
    clip = encode(harness.model, moving_clip(), width, height)
    assert tuple(clip.content.shape[3:]) == latent
    assert tuple(clip.state.shape[3:]) == latent


def test_a_video_is_learned_like_its_pictures(harness: NodeHarness, vae: Any) -> None:
    from comfy_api.latest import InputImpl, Types

    images = moving_clip()
    parts = Types.VideoComponents(images=images, frame_rate=Fraction(16))
    _, losses, _ = train(harness, vae, 2, name="pictures", clips=[images])
    video = InputImpl.VideoFromComponents(parts)
    _, others, _ = train(harness, vae, 2, name="video", clips=[video])
    assert losses == others


def test_a_vae_of_another_model_is_refused(
    node_classes: dict[str, Any], vae: Any, core: Any
) -> None:
    other = NodeHarness(node_classes, WAN_22_5B)
    with pytest.raises(core.AdaStateError, match="This VAE does not belong to the model"):
        train(other, vae, 1, name="another vae")
