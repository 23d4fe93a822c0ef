"""Random models of ComfyUI's real classes, through its stock loader.

Each is sized so that a forward over four latent frames takes some tenths of a second on one
thread, with the proportions of the family (channels of a head, width of the feed-forward), since
a share of overhead depends on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch
from comfy.ldm.cosmos.predict2 import MiniTrainDIT
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.kandinsky5.model import Kandinsky5
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.wan.model import WanModel
from comfy.ldm.wan.vae import WanVAE
from torch import Tensor, nn

from tools.bench.subject import Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CAUSAL = {"causal_ar": True}


def wan(
    *,
    dim: int,
    layers: int,
    channels: int = 16,
    feed_forward: int = 0,
    config: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> ModelPatcher:
    """Make a Wan; ComfyUI derives its heads from the width, 128 channels each.

    Args:
        dim: Width.
        layers: Layers.
        channels: Channels of its latents.
        feed_forward: Width of the feed-forward, 0 for four times the width.
        config: What its file says about it.
        dtype: Of its weights, and of what it computes with.
    """
    return _loaded(
        WanModel, config, dtype, model_type="t2v", dim=dim, ffn_dim=feed_forward or 4 * dim,
        num_heads=dim // 128, num_layers=layers, in_dim=channels, out_dim=channels,
    )  # fmt: skip


def wan_vae(dim: int) -> comfy.sd.VAE:
    """Make the VAE of Wan 2.1 at this width; the real one has 96."""
    with torch.random.fork_rng(devices=[]):
        vae = WanVAE(
            dim=dim, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
            temperal_downsample=[False, True, True],
        )  # fmt: skip
        return comfy.sd.VAE(sd=_random_weights(vae))


def cosmos() -> ModelPatcher:
    """Make a Cosmos Predict2; for a width it does not know, ComfyUI takes 16 heads, 10 blocks."""
    return _loaded(
        MiniTrainDIT, max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16,
        patch_spatial=2, patch_temporal=1, concat_padding_mask=True, model_channels=768,
        num_blocks=10, num_heads=16, crossattn_emb_channels=1024, pos_emb_cls="rope3d",
        use_adaln_lora=True, adaln_lora_dim=256, rope_h_extrapolation_ratio=4.0,
        rope_w_extrapolation_ratio=4.0,
    )  # fmt: skip


def kandinsky() -> ModelPatcher:
    """Make a Kandinsky 5, 64 channels a head."""
    return _loaded(
        Kandinsky5, time_dim=512, model_dim=512, ff_dim=2048, num_text_blocks=1,
        num_visual_blocks=2,
    )  # fmt: skip


def hunyuan() -> ModelPatcher:
    """Make a HunyuanVideo: one single-stream block for one double, 128 channels a head."""
    return _loaded(
        HunyuanVideo, in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096,
        hidden_size=512, mlp_ratio=4.0, num_heads=4, depth=1, depth_single_blocks=1,
        axes_dim=[16, 56, 56], theta=256, patch_size=[1, 2, 2], qkv_bias=True,
        guidance_embed=False, byt5=False, meanflow=False, use_cond_type_embedding=False,
        vision_in_dim=None, meanflow_sum=False,
    )  # fmt: skip


def ltxv() -> ModelPatcher:
    """Make an LTX-Video, 64 channels a head."""
    sizes = {"caption_channels": 4096, "num_attention_heads": 8, "attention_head_dim": 64}
    return _loaded(LTXVModel, sizes, cross_attention_dim=512, num_layers=2, **sizes)


def mochi() -> ModelPatcher:
    """Make a Mochi at half its width; ComfyUI's loader knows the full size only.

    Its class fixes the feed-forward at 12288 channels, 4 times the full width and 8 times this.
    """
    config = comfy.supported_models.GenmoMochi(
        {
            "image_model": "mochi_preview", "depth": 2, "patch_size": 2, "num_heads": 12,
            "hidden_size_x": 1536, "hidden_size_y": 768, "mlp_ratio_x": 8.0, "mlp_ratio_y": 4.0,
            "learn_sigma": False, "in_channels": 12, "qk_norm": True, "qkv_bias": False,
            "out_bias": True, "attn_drop": 0.0, "timestep_scale": 1000.0, "use_t5": True,
            "t5_feat_dim": 4096, "t5_token_length": 256, "rope_theta": 10000.0,
        }
    )  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    with torch.random.fork_rng(devices=[]):
        model = config.get_model({}, "")
    model.diffusion_model.load_state_dict(_random_weights(model.diffusion_model))
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, device, device)


SUBJECTS = {
    "wan 2.1": Subject(partial(wan, dim=512, layers=2), 4096),
    "wan 2.2 5B": Subject(partial(wan, dim=512, layers=2, channels=48), 4096, channels=48),
    "cosmos predict2": Subject(cosmos, 1024, size=(12, 12)),
    "kandinsky 5": Subject(kandinsky, 3584, pooled=768),
    "ltxv": Subject(ltxv, 4096, channels=128, size=(14, 14), patch=1, attention_mask=True),
    "hunyuan video": Subject(hunyuan, 4096, pooled=768),
    "mochi": Subject(mochi, 4096, channels=12, size=(12, 12), attention_mask=True),
}
"""One model of every family."""


def _loaded(
    make: Callable[..., nn.Module],
    config: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
    /,
    **sizes: Any,
) -> ModelPatcher:
    """Load random weights of a class as if from a file with this configuration."""
    with torch.random.fork_rng(devices=[]):
        model = make(dtype=dtype, device="cpu", operations=comfy.ops.disable_weight_init, **sizes)
        metadata = {"config": json.dumps({"transformer": config})} if config else None
        weights = _random_weights(model)
        # On a CPU ComfyUI would compute in float32 whatever the weights are, and cast each.
        options = {"dtype": dtype, "custom_operations": comfy.ops.disable_weight_init}
        patcher = comfy.sd.load_diffusion_model_state_dict(weights, options, metadata)
    patcher.model.manual_cast_dtype = None
    return patcher


def _random_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return weights that keep activations tame at any width: norms 1, biases 0.

    Each is in the dtype that the class gives it.
    """
    source = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in model.state_dict().items():
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            weight = torch.ones(value.shape)
        elif value.ndim == 1:
            weight = torch.zeros(value.shape)
        else:
            weight = torch.randn(value.shape, generator=source)
            weight /= (value.numel() / value.shape[0]) ** 0.5
        weights[name] = weight.to(value.dtype)
    return weights
