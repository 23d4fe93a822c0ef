"""Preset self_forcing against ComfyUI's own autoregressive sampler, on one causal checkpoint."""

from __future__ import annotations

import dataclasses
import importlib
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import WAN_CAUSAL

SEED, SIGMAS, FRAMES = 5, (1.0, 0.8, 0.5, 0.0), 12


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_CAUSAL)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return torch.randn((1, 16, FRAMES, 4, 6), generator=torch.Generator().manual_seed(SEED))


def by_core(harness: NodeHarness, noise: Tensor, frames: int) -> Tensor:
    """Sample the whole video at once; returns it in model space."""
    import comfy.sample
    import comfy.samplers

    sampler = comfy.samplers.ksampler("ar_video", {"num_frame_per_block": frames})
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        latent = comfy.sample.sample_custom(
            harness.bare,
            noise,
            1.0,
            sampler,
            torch.tensor(SIGMAS),
            conditioning(0),
            conditioning(1),
            torch.zeros_like(noise),
            seed=SEED,
        )
    return harness.bare.get_model_object("latent_format").process_in(latent)


def core_sampler(noise: Tensor, frames: int) -> Any:
    """Return core's loop over one block as an ordinary SAMPLER, with core's noise and seeds."""
    import comfy.samplers

    blocks = iter(range(FRAMES // frames))

    def sample(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, **_: Any) -> Tensor:
        block = next(blocks)
        x = noise[:, :, frames * block : frames * (block + 1)]
        for step, (sigma, following) in enumerate(pairwise(sigmas)):
            x = model(x, sigma * x.new_ones([1]), **extra_args)
            if following:
                torch.manual_seed(SEED + 1000 * block + step)
                x = (1 - following) * x + following * torch.randn_like(x)
        return x

    return comfy.samplers.KSAMPLER(sample)


@pytest.mark.parametrize("frames", [1, 3])
def test_self_forcing_gives_what_core_gives(
    harness: NodeHarness, core: Any, pack: Any, noise: Tensor, frames: int
) -> None:
    presets = importlib.import_module(f"{core.__name__}.anchors.presets")
    binding = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.binding")
    config = dataclasses.replace(presets.preset_config("self_forcing"), chunk_frames=frames)
    state, _ = harness.run(
        "AdaStateStream",
        binding.bind(harness.bare, config),
        harness.fresh(),
        positive=conditioning(0),
        cfg=1.0,
        sampler=core_sampler(noise, frames),
        sigmas=torch.tensor(SIGMAS),
        seed=0,
        chunks=FRAMES // frames,
    )
    expected = by_core(harness, noise, frames)
    torch.testing.assert_close(state.content(), expected, atol=1e-4, rtol=0)
    later = (
        state.content()[:, :, -frames:] - by_core(harness, noise.flip(2), frames)[:, :, -frames:]
    )
    assert later.abs().max() > 0.01  # other noise gives something else, so the test can fail
