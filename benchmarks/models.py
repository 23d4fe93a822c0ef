"""Random models of ComfyUI's real classes, through its stock loader.

Each is sized so that a forward over four latent frames takes some tenths of a second on one
thread, with the proportions of the family (channels of a head, width of the feed-forward), since
a share of overhead depends on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch
from comfy.ldm.cosmos.predict2 import MiniTrainDIT
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.kandinsky5.model import Kandinsky5
from comfy.ldm.lightricks.av_model import LTXAVModel
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.wan.model import WanModel
from comfy.ldm.wan.vae import WanVAE
from comfy.taesd.taehv import TAEHV
from torch import Tensor, nn

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CAUSAL = {"causal_ar": True}
_Sizes = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A random model of one family, and what its forward takes besides the video.

    Args:
        build: Makes the MODEL; leaves the global random state alone.
        text_width: Channels of its text embedding.
        channels: Channels of its latents.
        size: Rows and columns of its latents.
        patch: Rows and columns that a token covers.
        text_tokens: Tokens of the text; 84 beside four of these frames are as much as Wan's 512
            beside four frames of 480p.
        pooled: Channels of its pooled text embedding, 0 if it takes none.
        attention_mask: Whether the text comes with a mask.
        flags: What is set beside the text.
        chunk: Latent frames of a chunk, and of its window.
        sound: Shape of the latents of so many units of sound, as the class has them; None for a
            model that makes none.
    """

    build: Callable[[], ModelPatcher]
    text_width: int = 4096
    channels: int = 16
    size: tuple[int, int] = (28, 28)
    patch: int = 2
    text_tokens: int = 84
    pooled: int = 0
    attention_mask: bool = False
    flags: tuple[str, ...] = ()
    chunk: int = 3
    sound: Callable[[int], tuple[int, int, int, int]] | None = None

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one latent frame."""
        rows, columns = self.size
        return (rows // self.patch) * (columns // self.patch)

    def latent_shape(self, frames: int) -> tuple[int, int, int, int, int]:
        """Return the shape of some latent frames."""
        return 1, self.channels, frames, *self.size

    def conditioning(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Make a random text embedding and what comes with it."""
        source = torch.Generator().manual_seed(1)
        text = torch.randn((1, self.text_tokens, self.text_width), generator=source)
        extras = {name: torch.ones(()) for name in self.flags}
        if self.pooled:
            extras["pooled_output"] = torch.randn((1, self.pooled), generator=source)
        if self.attention_mask:
            extras["attention_mask"] = torch.ones((1, self.text_tokens), dtype=torch.long)
        return text, extras


def wan(
    dim: int,
    layers: int,
    *,
    size: tuple[int, int] = (28, 28),
    channels: int = 16,
    feed_forward: int = 0,
    text_tokens: int = 84,
    config: dict[str, Any] | None = None,
    dtype: str = "float32",
) -> Subject:
    """Describe a Wan; its heads have 128 channels, its feed-forward four times the width."""
    sizes = {"dim": dim, "ffn_dim": feed_forward or 4 * dim, "num_heads": dim // 128}
    sizes |= {"num_layers": layers, "in_dim": channels, "out_dim": channels}
    build = partial(_load, WanModel, config, dtype, model_type="t2v", **sizes)
    return Subject(build, channels=channels, size=size, text_tokens=text_tokens)


@dataclass(frozen=True)
class RealSize:
    """The size of Wan 2.1 1.3B at 480 x 832, and of its VAE."""

    dim: int = 1536
    layers: int = 30
    feed_forward: int = 8960
    size: tuple[int, int] = (60, 104)
    text_tokens: int = 512
    vae_dim: int = 96
    dtype: str = "bfloat16"

    def subject(self) -> Subject:
        """Describe the model."""
        shape = partial(wan, self.dim, self.layers, feed_forward=self.feed_forward, size=self.size)
        return shape(text_tokens=self.text_tokens, dtype=self.dtype)


def wan_vae(dim: int) -> comfy.sd.VAE:
    """Make the VAE of Wan 2.1 at this width; the real one has 96."""
    with torch.random.fork_rng(devices=[]):
        vae = WanVAE(dim=dim, z_dim=16, temperal_downsample=[False, True, True])
        return comfy.sd.VAE(sd=_random_weights(vae))


def tiny_vae() -> comfy.sd.VAE:
    """Make a tiny VAE (TAEHV) of Wan 2.1; its class has one size only."""
    with torch.random.fork_rng(devices=[]):
        return comfy.sd.VAE(sd=_random_weights(TAEHV(latent_channels=16)))


def _load(
    make: Callable[..., nn.Module],
    config: dict[str, Any] | None = None,
    dtype: str = "float32",
    **sizes: Any,
) -> ModelPatcher:
    """Load random weights of a class as if from a file with this configuration."""
    kind, operations = getattr(torch, dtype), comfy.ops.disable_weight_init
    with torch.random.fork_rng(devices=[]):
        model = make(dtype=kind, device="cpu", operations=operations, **sizes)
        metadata = {"config": json.dumps({"transformer": config})} if config else None
        weights = _random_weights(model)
        # On a CPU ComfyUI would compute in float32 whatever the weights are, and cast each.
        options = {"dtype": kind, "custom_operations": operations}
        patcher = comfy.sd.load_diffusion_model_state_dict(weights, options, metadata)
    patcher.model.manual_cast_dtype = None
    return patcher


def _mochi() -> ModelPatcher:
    """Make a Mochi at half its width; ComfyUI's loader knows the full size only.

    Its class fixes the feed-forward at 12288 channels, 4 times the full width and 8 times this.
    """
    sizes = {"hidden_size_x": 1536, "hidden_size_y": 768, "num_heads": 12, "depth": 2}
    named = {"image_model": "mochi_preview", "in_channels": 12, "learn_sigma": False}
    rest = {"timestep_scale": 1000.0, "use_t5": True, "qk_norm": True, "qkv_bias": False}
    config = comfy.supported_models.GenmoMochi(named | sizes | rest)
    config.set_inference_dtype(torch.float32, None)
    with torch.random.fork_rng(devices=[]):
        model = config.get_model({}, "")
    model.diffusion_model.load_state_dict(_random_weights(model.diffusion_model))
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, device, device)


def _random_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return weights that keep activations tame at any width: norms 1, biases 0.

    Each is in the dtype that the class gives it.
    """
    # On a card, since billions of them take minutes on one thread of a processor.
    device = comfy.model_management.get_torch_device()
    source = torch.Generator(device).manual_seed(0)
    weights = {}
    for name, value in model.state_dict().items():
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            weight = torch.ones(value.shape)
        elif value.ndim == 1:
            weight = torch.zeros(value.shape)
        else:
            weight = torch.randn(value.shape, generator=source, device=device)
            weight /= (value.numel() / value.shape[0]) ** 0.5
        weights[name] = weight.to(value.dtype).cpu()
    return weights


def _with_sound() -> dict[str, Subject]:
    """Describe the models that make sound, as far as this ComfyUI has them."""
    ltx2 = Subject(
        partial(_load, LTXAVModel, _LTX2, num_layers=2, **_LTX2),
        768,
        channels=128,
        size=(10, 10),
        patch=1,
        flags=("unprocessed_ltxav_embeds",),
        sound=lambda ticks: (1, 8, ticks, 16),
    )
    try:
        from comfy.ldm.minimax.model import MiniMaxH3Model
    except ImportError:
        return {"ltx-2": ltx2}
    sizes: _Sizes = {"hidden_size": 384, "num_layers": 2, "token_refiner_num_layers": 1}
    sizes |= {"num_attention_heads": 4, "ffn_hidden_size": 1024, "text_dim": 512}
    sizes |= {"timestep_input_dim": 64, "time_embed_hidden_size": 384, "time_embed_dim": 192}
    return {
        "ltx-2": ltx2,
        "minimax h3": Subject(
            partial(_load, MiniMaxH3Model, **sizes),
            512,
            channels=24,
            size=(20, 20),
            chunk=5,
            sound=lambda ticks: (1, 32, 2, ticks),
        ),
    }


# For a width that it does not know, ComfyUI takes 16 heads and 10 blocks, which is the default.
_COSMOS: _Sizes = {"max_img_h": 240, "max_img_w": 240, "max_frames": 128, "pos_emb_cls": "rope3d"}
_COSMOS |= {"in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1}
_COSMOS |= {"use_adaln_lora": True}
_KANDINSKY: _Sizes = {"model_dim": 512, "ff_dim": 2048, "num_text_blocks": 1}
_KANDINSKY |= {"num_visual_blocks": 2}
_LTXV: _Sizes = {"caption_channels": 4096, "num_attention_heads": 8, "attention_head_dim": 64}
_LTX2: _Sizes = {"num_attention_heads": 8, "attention_head_dim": 64, "cross_attention_dim": 512}
_LTX2 |= {"audio_num_attention_heads": 8, "audio_attention_head_dim": 32}
_LTX2 |= {"audio_cross_attention_dim": 256, "caption_channels": 768, "rope_type": "split"}
_LTX2 |= {"connector_num_attention_heads": 8, "connector_attention_head_dim": 64}
_LTX2 |= {"audio_connector_attention_head_dim": 32, "connector_num_layers": 1}
_LTX2 |= {"frequencies_precision": "float64", "causal_temporal_positioning": True}
_LTX2 |= {"use_middle_indices_grid": True, "av_ca_timestep_scale_multiplier": 1000.0}
# As from LTX-2.3 on.
_LTX2 |= {"apply_gated_attention": True, "connector_apply_gated_attention": True}
_LTX2 |= {"cross_attention_adaln": True, "caption_proj_before_connector": True}
_LTX2 |= {"caption_projection_first_linear": False}
# One single-stream block for one double; what 1.5 has besides is off.
_HUNYUAN: _Sizes = {"depth": 1, "depth_single_blocks": 1, "hidden_size": 512, "num_heads": 4}
_HUNYUAN |= {"mlp_ratio": 4.0, "axes_dim": [16, 56, 56], "theta": 256, "patch_size": [1, 2, 2]}
_HUNYUAN |= {"in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096}
_HUNYUAN |= {"qkv_bias": True, "guidance_embed": False, "byt5": False, "meanflow": False}
_HUNYUAN |= {"meanflow_sum": False, "use_cond_type_embedding": False, "vision_in_dim": None}

SUBJECTS = {
    "wan 2.1": wan(512, 2),
    "wan 2.2 5B": wan(512, 2, channels=48),
    "cosmos predict2": Subject(partial(_load, MiniTrainDIT, **_COSMOS), 1024, size=(12, 12)),
    "kandinsky 5": Subject(partial(_load, Kandinsky5, **_KANDINSKY), 3584, pooled=768),
    "ltxv": Subject(
        partial(_load, LTXVModel, _LTXV, cross_attention_dim=512, num_layers=2, **_LTXV),
        channels=128,
        size=(14, 14),
        patch=1,
        attention_mask=True,
    ),
    "hunyuan video": Subject(partial(_load, HunyuanVideo, **_HUNYUAN), pooled=768),
    "mochi": Subject(_mochi, channels=12, size=(12, 12), attention_mask=True),
    **_with_sound(),
}
"""One model of every family."""
