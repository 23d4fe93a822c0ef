"""The small models that come with the pack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ...adastate_core.fingerprint import ModelFingerprint
from ..devices import private_rng
from .checkpoint import declared_shift
from .demo_words import mark_demo
from .demo_world import FOLDER, demo_world
from .loading import load_streaming_model, with_shift

_DIT = "adastate_demo_dit.safetensors"
_TEXT = "adastate_demo_umt5.safetensors"
_VAE = "adastate_demo_vae.safetensors"


def load_demo_model() -> ModelPatcher:
    """Load the demo's DiT with the schedule shift that its file declares, and its own colours."""
    path = str(FOLDER / _DIT)
    model = with_shift(load_streaming_model(path, {}), declared_shift(path))
    with_demo_colours(model.get_model_object("latent_format"))
    return mark_demo(model)


def is_demo(fingerprint: ModelFingerprint | None) -> bool:
    """Return whether it is that of the demo's DiT."""
    return fingerprint is not None and fingerprint.sampled == demo_world().fingerprint


def with_demo_colours(form: Any) -> Any:
    """Give a latent format, this one alone, the colours that the demo's latents stand for.

    It stays of its class, by whose name streams record it.
    """
    world = demo_world()
    form.latent_rgb_factors = [list(row) for row in world.latent_rgb_factors]
    form.latent_rgb_factors_bias = list(world.latent_rgb_factors_bias)
    return form


def load_demo_clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """Load the demo's text encoder; the host can load it again."""
    clip = load_small_umt5(FOLDER / _TEXT, disable_dynamic)
    clip.patcher.cached_patcher_init = (_demo_patcher, ("clip",))
    return clip


def load_small_umt5(path: Path, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """Load a text encoder whose file names its sizes, which the host's loader does not read."""
    text, header = comfy.utils.load_torch_file(str(path), return_metadata=True)
    with private_rng(comfy.model_management.get_torch_device()):
        return comfy.sd.load_text_encoder_state_dicts(
            [text],
            clip_type=comfy.sd.CLIPType.WAN,
            model_options={"umt5xxl_model_config": json.loads(header["umt5xxl_model_config"])},
            disable_dynamic=disable_dynamic,
        )


def load_demo_vae() -> comfy.sd.VAE:
    """Load the demo's VAE; the host can load it again."""
    weights, header = comfy.utils.load_torch_file(str(FOLDER / _VAE), return_metadata=True)
    with private_rng(comfy.model_management.get_torch_device()):
        vae = comfy.sd.VAE(sd=weights, dtype=_fast_vae_dtype(), metadata=header)
    vae.patcher.cached_patcher_init = (_demo_patcher, ("vae",))
    return vae


def _demo_patcher(kind: str, disable_dynamic: bool = False) -> ModelPatcher:
    loaded = load_demo_clip(disable_dynamic) if kind == "clip" else load_demo_vae()
    return loaded.patcher


def _fast_vae_dtype() -> torch.dtype | None:
    """Choose bfloat16 where the VAE runs on a CPU that computes in it; else leave it to the host.

    The host takes float32 on every CPU. Video convolutions in float32 are many times slower there
    than in bfloat16.
    """
    if comfy.model_management.vae_device().type != "cpu":
        return None
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if native else None
