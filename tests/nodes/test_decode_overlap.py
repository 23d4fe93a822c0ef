"""Decode Stream with VAEs that begin anew with every call: the parts line up, the joins are told.

The classes are ComfyUI's own, smaller than its loader makes them; so a loaded VAE gets another
module and the numbers that the loader would have set.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.tiny_models import WAN_VAE


def hunyuan() -> nn.Module:
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {
        "double_z": True,
        "z_channels": 16,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
        "conv3d": True,
        "time_compress": 4,
    }
    return AutoencoderKL(ddconfig=config, embed_dim=16)


def hunyuan_15() -> nn.Module:
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    config = {
        "block_out_channels": [16, 16, 16, 16, 32],
        "in_channels": 3,
        "out_channels": 3,
        "num_res_blocks": 1,
        "ffactor_spatial": 16,
        "ffactor_temporal": 4,
        "z_channels": 32,
        "upsample_match_channel": True,
        "downsample_match_channel": True,
        "refiner_vae": True,
    }
    refiner = "comfy.ldm.hunyuan_video.vae_refiner"
    return AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.EmptyRegularizer"},
        encoder_config={"target": f"{refiner}.Encoder", "params": config},
        decoder_config={"target": f"{refiner}.Decoder", "params": config},
    )


def ltxv() -> nn.Module:
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    blocks = [["res_x", {"num_layers": 1}], *[["compress_all", {"residual": True}]] * 3]
    config = {
        "dims": 3,
        "latent_channels": 128,
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "causal_decoder": False,
        "timestep_conditioning": True,
        "encoder_blocks": blocks,
        "decoder_blocks": blocks,
        "decoder_base_channels": 8,
        "encoder_base_channels": 8,
    }
    return VideoVAE(config=config)


class Mochi(nn.Module):
    """The decoder alone; the class around it has one size only."""

    def __init__(self) -> None:
        from comfy.ldm.genmo.vae.model import Decoder

        super().__init__()
        self.decoder = Decoder(
            out_channels=3,
            base_channels=32,
            channel_multipliers=[1, 2, 3, 4],
            temporal_expansions=[1, 2, 3],
            spatial_expansions=[2, 2, 2],
            num_res_blocks=[1, 0, 0, 0, 1],
            latent_dim=12,
            has_attention=[False] * 5,
            padding_mode="replicate",
            output_norm=False,
            nonlinearity="silu",
            output_nonlinearity="silu",
            causal=True,
        )

    def decode(self, x: Tensor) -> Tensor:
        return self.decoder(x)


KINDS: dict[str, tuple[Any, int, int, int]] = {
    "hunyuan": (hunyuan, 16, 4, 8),
    "hunyuan_15": (hunyuan_15, 32, 4, 16),
    "ltxv": (ltxv, 128, 8, 32),
    "mochi": (Mochi, 12, 6, 8),
}


def tame_weights(module: nn.Module) -> nn.Module:
    """Fill in weights of which the nearest frames count most."""
    source = torch.Generator().manual_seed(3)
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        value.requires_grad_(False)
        if value.ndim < 2 or "norm" in key or "gamma" in key:
            one = key.endswith(("weight", "gamma", "std-of-means"))
            value.data = torch.full(value.shape, float(one))
            continue
        scale = (value.numel() / value.shape[0]) ** -0.5
        scale *= 0.1 if "attn" in key or ".block" in key else 1.0
        value.data = torch.randn(value.shape, generator=source) * scale
    return module


def vae_of(name: str, **changes: Any) -> Any:
    import comfy.model_patcher

    import nodes

    make, channels, stride, side = KINDS[name]
    vae = copy.copy(nodes.VAELoader().load_vae(WAN_VAE)[0])
    module = tame_weights(make().eval())
    vae.first_stage_model = module
    vae.patcher = comfy.model_patcher.ModelPatcher(module, vae.device, vae.device)
    vae.latent_channels = channels
    vae.upscale_ratio = (lambda a: max(0, a * stride - stride + 1), side, side)
    for key, value in changes.items():
        setattr(vae, key, value)
    return vae


def latents_for(name: str, frames: int) -> Tensor:
    # As many pixels as those of "hunyuan": the time it takes goes by them.
    size = (2, 3) if name == "hunyuan_15" else (4, 6)
    shape = (1, KINDS[name][1], frames, *size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def decoded(pack: Any, vae: Any, latents: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Any]:
    pictures = importlib.import_module(f"{pack.__name__}.adastate_comfy.video.decoders")
    decoder = pictures.open_decoder(vae, tuple(latents[:, :, : max(sizes)].shape))
    decoder.load()
    before = torch.random.get_rng_state()
    parts = [decoder.decode(part) for part in latents.split(sizes, dim=2)]
    assert torch.equal(before, torch.random.get_rng_state())
    return torch.cat(parts, dim=1), decoder


def told(note: str) -> float:
    return float(note.rsplit(" ", 1)[1])


@pytest.mark.parametrize("name", ["hunyuan", "hunyuan_15", "mochi"])
def test_parts_line_up_with_the_whole(pack: Any, tiny_models: Any, name: str) -> None:
    vae, latents = vae_of(name), latents_for(name, 12)
    parts, decoder = decoded(pack, vae, latents, (3, 3, 3, 3))
    with torch.inference_mode():
        whole = vae.decode(latents)
    assert parts.shape == whole.shape
    assert parts.dtype == whole.dtype
    assert not decoder.exact
    assert not decoder.can_run_in_background
    assert 0 < told(decoder.note) <= 1
    # Two parts begin with the video; pictures one off would differ by far more.
    known = 1 + 5 * KINDS[name][2]
    error = (parts - whole)[:, :known].abs().mean()
    assert error < 0.2 * (parts[:, 1:known] - whole[:, : known - 1]).abs().mean()


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (1,) * 12, (2, 7, 3), (5, 7)])
def test_a_causal_decoder_that_sees_little_joins_well(
    pack: Any, tiny_models: Any, sizes: tuple[int, ...]
) -> None:
    vae, latents = vae_of("mochi"), latents_for("mochi", 12)
    parts, decoder = decoded(pack, vae, latents, sizes)
    with torch.inference_mode():
        whole = vae.decode(latents)
    assert parts.shape == whole.shape
    error = (parts - whole).abs()
    assert error.mean() < 0.1 * (parts[:, 1:] - whole[:, :-1]).abs().mean()
    if len(sizes) > 2:
        # What is told is what was measured at one join of several.
        assert 0.5 * told(decoder.note) <= error.max() <= 2 * told(decoder.note)
    else:
        assert "too short to measure" in decoder.note


def test_what_does_not_join_is_refused(pack: Any, tiny_models: Any) -> None:
    latents = latents_for("mochi", 3)
    for changes in ({"latent_dim": 2}, {"not_video": True}):
        with pytest.raises(ValueError, match=r"^Mochi decodes single pictures"):
            decoded(pack, vae_of("mochi", **changes), latents, (3,))
    uneven = (lambda a: 17 * a, 8, 8)
    with pytest.raises(ValueError, match="makes different numbers of pictures"):
        decoded(pack, vae_of("mochi", upscale_ratio=uneven), latents, (3,))
    with pytest.raises(ValueError, match="it has 12 channels, the stream has 16"):
        decoded(pack, vae_of("mochi"), latents_for("hunyuan", 3), (3,))
    four = (lambda a: 4 * a - 3, 8, 8)
    with pytest.raises(ValueError, match="makes 13 pictures where 9 were expected"):
        decoded(pack, vae_of("mochi", upscale_ratio=four), latents, (3,))


def test_a_decoder_with_noise_of_its_own_leaves_the_global_generators(
    pack: Any, tiny_models: Any
) -> None:
    vae, latents = vae_of("ltxv"), latents_for("ltxv", 4)
    vae.first_stage_model.decoder.causal = True
    first, _ = decoded(pack, vae, latents, (2, 2))
    torch.manual_seed(123)
    again, _ = decoded(pack, vae, latents, (2, 2))
    assert torch.equal(first, again)
    assert first.shape[1] == 25
