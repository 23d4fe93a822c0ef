"""Small random VAEs of ComfyUI's real classes that run part by part."""

from __future__ import annotations

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
