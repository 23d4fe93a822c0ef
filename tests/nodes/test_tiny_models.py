"""The tests' own checkpoints go through ComfyUI's stock loaders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import tiny_models as tiny


@pytest.mark.parametrize(
    ("name", "model_class", "latent_channels"),
    [
        (tiny.WAN, "WAN21", 16),
        (tiny.WAN_LARGER, "WAN21", 16),
        (tiny.WAN_CAUSAL, "WAN21_CausalAR", 16),
        (tiny.WAN_22_5B, "WAN22", 48),
    ],
)
def test_diffusion_models_load(
    tiny_models: Path, name: str, model_class: str, latent_channels: int
) -> None:
    import comfy.sd

    patcher = comfy.sd.load_diffusion_model(str(tiny_models / "diffusion_models" / name))
    assert type(patcher.model).__name__ == model_class
    assert patcher.model.latent_format.latent_channels == latent_channels


def test_vae_decodes_a_clip(tiny_models: Path) -> None:
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(str(tiny_models / "vae" / tiny.WAN_VAE))
    images = comfy.sd.VAE(sd=weights).decode(torch.zeros(1, 16, 3, 4, 4))
    assert images.shape == (1, 9, 32, 32, 3)
    assert bool(images.isfinite().all())
