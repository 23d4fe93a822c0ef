"""What tiny files of LTX-2 say in their headers, and one that has everything in it.

`tiny_models` loads it by its path, in a process without this package.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Weights = dict[str, "torch.Tensor"]

LTX2_CONFIG = {
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "cross_attention_dim": 64,
    "audio_attention_head_dim": 16,
    "audio_num_attention_heads": 2,
    "audio_cross_attention_dim": 32,
    "caption_channels": 48,
    "connector_attention_head_dim": 24,
    "connector_num_attention_heads": 2,
    "connector_num_layers": 1,
    "causal_temporal_positioning": True,
    "use_middle_indices_grid": True,
    "av_ca_timestep_scale_multiplier": 1000.0,
    "frequencies_precision": "float64",
    "rope_type": "split",
}
"""What the header of an LTX-2 file says."""
LTX23_CONFIG = {
    **LTX2_CONFIG,
    "connector_attention_head_dim": 32,
    "audio_connector_attention_head_dim": 16,
    "apply_gated_attention": True,
    "connector_apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
}

LTX25_CONFIG = {
    **LTX23_CONFIG,
    "ff_bias": False,
    "audio_ff_bias": False,
    "connector_ff_bias": False,
    "use_prompt_adaln_single": False,
    "cross_attention_adaln": False,
}


def header(**parts: dict[str, Any]) -> dict[str, str]:
    """Return the header of a file, as ComfyUI's loaders read it."""
    return {"config": json.dumps(parts)}


def whole(
    model: Weights, config: dict[str, Any], video: tuple[Any, Any], sound: tuple[Any, Any]
) -> tuple[Weights, dict[str, str]]:
    """Return what is in a file of model and VAEs, as its publisher packs them, and its header.

    Args:
        model: The weights of the model.
        config: What its header says.
        video: The VAE of the pictures, and what its header says.
        sound: The VAE of the sound with its vocoder, and what its header says.
    """
    weights = {f"model.diffusion_model.{name}": value for name, value in model.items()}
    weights |= {f"vae.{name}": value for name, value in video[0].state_dict().items()}
    for name, value in sound[0].state_dict().items():
        weights[name.replace("autoencoder.", "audio_vae.", 1)] = value
    weights = {name: value.detach().clone() for name, value in weights.items()}
    return weights, header(transformer=config, **video[1], **sound[1])


def build(
    target: Path,
    names: tuple[str, str, str, str],
    filled: Callable[..., Weights],
    options: dict[str, Any],
    vaes: Any,
) -> None:
    """Write LTX-2.0, the same with interleaved rotation, LTX-2.3, and that with its VAEs.

    Args:
        target: A folder laid out like ComfyUI's `models`.
        names: What the files are called.
        filled: Returns random weights for a model, by a seed.
        options: How models are made.
        vaes: The module that makes VAEs.
    """
    from comfy.ldm.lightricks.av_model import LTXAVModel
    from safetensors.torch import save_file

    interleaved = {**LTX2_CONFIG, "rope_type": "interleaved"}
    configs = (LTX2_CONFIG, interleaved, LTX23_CONFIG)
    for seed, (name, config) in enumerate(zip(names, configs, strict=False), 16):
        weights = filled(LTXAVModel(num_layers=2, **config, **options), seed)
        save_file(weights, target / "diffusion_models" / name, header(transformer=config))
    (target / "checkpoints").mkdir()
    parts = vaes.ltx_2_video_parts(), vaes.ltx_2_sound_parts()
    everything, says = whole(weights, config, *parts)
    save_file(everything, target / "checkpoints" / names[-1], says)


def build_ltx25(target: Path, filled: Callable[..., Weights], options: dict[str, Any]) -> None:
    """Write LTX-2.5, where ComfyUI knows it: whether it has marks, its weights say.

    Args:
        target: The file.
        filled: Returns random weights for a model, by a seed.
        options: How models are made.
    """
    from comfy.ldm.lightricks.av_model import LTXAVModel
    from safetensors.torch import save_file

    marked = {**LTX25_CONFIG, "use_keyframes_abs_pos_embedding": True}
    weights = filled(LTXAVModel(num_layers=2, **marked, **options), 19)
    weights["keyframes_abs_pos_embedding"] *= 8  # of the size of what it is added to
    save_file(weights, target, header(transformer=LTX25_CONFIG))
