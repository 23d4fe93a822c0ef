"""Small random VAEs of ComfyUI's real classes that run part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def random_weights(vae: nn.Module) -> nn.Module:
    source = torch.Generator().manual_seed(0)
    for name, value in vae.named_parameters():
        value.requires_grad_(False)
        if name.endswith("gamma"):
            value.fill_(1.0)
        elif value.ndim > 1:
            scale = (value.numel() / value.shape[0]) ** -0.5
            value.copy_(torch.randn(value.shape, generator=source) * scale)
        else:
            value.zero_()
    return vae


def wan_21() -> nn.Module:
    from comfy.ldm.wan.vae import WanVAE

    return WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])


def wan_22() -> nn.Module:
    from comfy.ldm.wan.vae2_2 import WanVAE

    return WanVAE(dim=16, dec_dim=16, z_dim=48, temperal_downsample=[False, True, True])


def taehv(channels: int) -> Any:
    def make() -> nn.Module:
        import comfy.latent_formats
        from comfy.taesd.taehv import TAEHV

        # HunyuanVideo scales its latents; ComfyUI hands the format of the family over.
        form = comfy.latent_formats.HunyuanVideo if channels == 16 else None
        return TAEHV(latent_channels=channels, latent_format=form)

    return make


_ADDED = ("convs2.", "conv2.", "conv_post.", "decoder.conv_out.", "proj_out.")


def _quiet_weights(module: nn.Module, volume: float = 1.0) -> nn.Module:
    """Fill in every weight, so that sound and pictures stay well inside what they are clamped to.

    Args:
        module: The VAE.
        volume: What to multiply the sound with.
    """
    source = torch.Generator().manual_seed(0)
    fixed = ("filter", "inv_freq", "pixel_mean", "pixel_std")
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        value.requires_grad_(False)
        last = name.rsplit(".", 1)[-1]
        if last in fixed:
            continue
        if value.ndim > 1 and last not in ("scale_shift_table", "last_scale_shift_table"):
            scale = (value.numel() / value.shape[0]) ** -0.5
            # What is added to a path, and what comes out, is less than what is on it.
            scale *= 0.3 if any(part in name for part in _ADDED) else 1.0
            scale *= volume if "conv_post." in name else 1.0
            value.data = torch.randn(value.shape, generator=source) * scale
            if last == "mel_basis":
                value.abs_()
        else:
            one = last in ("latents_std", "std-of-means", "scale1", "scale2")
            one = one or (last == "weight" and "norm" in name)
            value.data = torch.full(value.shape, 0.3 if last.startswith("scale") else float(one))
    return module


@contextmanager
def _smaller(module: Any, name: str, **sizes: Any) -> Iterator[None]:
    """Have a class of the host made smaller than its loader asks for."""
    original = getattr(module, name)
    small = type(name, (original,), {"__module__": original.__module__})
    small.__init__ = lambda self, *args, **kwargs: original.__init__(
        self, *args, **(kwargs | sizes)
    )
    setattr(module, name, small)
    try:
        yield
    finally:
        setattr(module, name, original)


def minimax_h3_video() -> Any:
    """Load a small video VAE of MiniMax H3, as a file of its keys."""
    from comfy.ldm.minimax import vae

    with (
        _smaller(vae, "ViT3DDecoder", num_layers=2, heads=1, dim_head=64),
        _smaller(vae, "MiniMaxH3VideoVAE", ch=32, ch_mult=(1,) * 6, num_res_blocks=1),
    ):
        return _loaded(_quiet_weights(vae.MiniMaxH3VideoVAE()))


def minimax_h3_sound(small: bool = True, kernels: tuple[int, ...] = (3, 7, 11)) -> Any:
    """Load an audio VAE of MiniMax H3, as a file of its keys.

    Args:
        small: Whether it has fewer channels than the published one.
        kernels: Sizes of its convolutions; with fewer it is faster, and reaches less far.
    """
    from comfy.ldm.minimax import audio_vae

    sizes = {"encoder_dim": 4, "latent_dim": 64, "decoder_dim": 128} if small else {}
    blocks = {
        "resblock_kernel_sizes": kernels,
        "resblock_dilation_sizes": ((1, 3, 5),) * len(kernels),
    }
    with (
        _smaller(audio_vae, "BigVGAN", **blocks),
        _smaller(audio_vae, "MiniMaxH3AudioVAE", **sizes),
    ):
        return _loaded(_quiet_weights(audio_vae.MiniMaxH3AudioVAE(), volume=0.4))


def ltx_2_video(layers: int = 1) -> Any:
    """Load a small video VAE of LTX-2, as a file of its keys and configuration."""
    return _loaded(*ltx_2_video_parts(layers))


def ltx_2_video_parts(layers: int = 1) -> tuple[nn.Module, dict[str, Any]]:
    """Return a small video VAE of LTX-2, and what the header of its file says.

    Args:
        layers: Residual blocks of each level; the published ones have 5 and more.
    """
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    level = ["res_x", {"num_layers": layers, "inject_noise": False}]
    up = ["compress_all", {"residual": True, "multiplier": 2}]
    config = {
        "dims": 3,
        "latent_channels": 128,
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "causal_decoder": False,
        "timestep_conditioning": False,
        "encoder_blocks": [["res_x", {"num_layers": 1}], *[["compress_all", {}]] * 3],
        "decoder_blocks": [level, up, level, up, level, up, level],
        "decoder_base_channels": 8,
        "encoder_base_channels": 8,
    }
    return _quiet_weights(VideoVAE(config=config)), {"vae": config}


def ltx_2_sound(
    wide: bool = False, channels: int = 16, vocoder: int = 64, volume: float = 30.0
) -> Any:
    """Load a small audio VAE of LTX-2, as a file of its keys and configuration."""
    return _loaded(*ltx_2_sound_parts(wide, channels, vocoder, volume))


def ltx_2_sound_parts(
    wide: bool = False, channels: int = 16, vocoder: int = 64, volume: float = 30.0
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a small audio VAE of LTX-2, and what the header of its file says.

    Args:
        wide: Whether a second vocoder widens the band, as from LTX-2.3 on.
        channels: Channels of the decoder of the spectrogram; the published one has 128.
        vocoder: Channels of the vocoder; the published one has 1024.
        volume: How loud the first vocoder is.
    """
    from comfy.ldm.lightricks.vae.audio_vae import AudioVAE

    coder = {
        "double_z": True,
        "mel_bins": 64,
        "z_channels": 8,
        "resolution": 256,
        "in_channels": 2,
        "out_ch": 2,
        "ch": channels,
        "ch_mult": [1, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
        "mid_block_add_attention": False,
        "norm_type": "pixel",
        "causality_axis": "height",
    }
    voice: dict[str, Any] = {
        "upsample_initial_channel": vocoder,
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "upsample_rates": [6, 5, 2, 2, 2],
        "upsample_kernel_sizes": [16, 15, 8, 4, 4],
        "stereo": True,
    }
    if wide:
        anti_aliased = {"resblock": "AMP1", "activation": "snakebeta", "use_tanh_at_final": False}
        first = {
            **voice,
            **anti_aliased,
            "upsample_rates": [5, 2, 2, 2, 2, 2],
            "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
        }
        second = {
            **voice,
            **anti_aliased,
            "input_sampling_rate": 16000,
            "output_sampling_rate": 48000,
            "hop_length": 80,
            "n_fft": 512,
            "num_mels": 64,
        }
        voice = {"vocoder": first, "bwe": second}
    config = {
        "audio_vae": {
            "model": {"params": {"ddconfig": coder, "sampling_rate": 16000}},
            "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160}},
        },
        "vocoder": voice,
    }
    made = AudioVAE({"config": json.dumps(config)})
    # The loader tells it by its residual blocks, which are below `vocoder` in files of both kinds.
    return _quiet_weights(made, volume=0.2 if wide else volume), config


def _loaded(module: nn.Module, config: dict[str, Any] | None = None) -> Any:
    import comfy.sd

    weights = {name: value.clone() for name, value in module.state_dict().items()}
    metadata = {"config": json.dumps(config)} if config is not None else None
    return comfy.sd.VAE(sd=weights, metadata=metadata)
