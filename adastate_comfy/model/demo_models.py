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
from .loading import load_streaming_model, with_shift

_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "demo"
_DIT = "adastate_demo_dit.safetensors"
_TEXT = "adastate_demo_umt5.safetensors"
_VAE = "adastate_demo_vae.safetensors"
_SAMPLED = "e25d3dd0edc9fc20e098ea641c1fc731"
"""What a fingerprint says of the weights of the DiT."""
_COLOURS = (
    (-0.0777, -0.0118, 0.1218),
    (0.0342, -0.0849, 0.1158),
    (0.1574, 0.0437, 0.0475),
    (-0.0207, 0.0426, 0.0609),
    (0.0105, 0.0822, -0.0370),
    (0.0375, -0.1158, -0.0442),
    (-0.0758, 0.0744, -0.2539),
    (-0.0751, 0.0995, 0.0599),
    (-0.0236, -0.0305, -0.0134),
    (-0.0309, 0.1344, -0.0511),
    (-0.0028, 0.0434, 0.0105),
    (-0.0106, -0.0150, 0.0523),
    (-0.0909, 0.1326, -0.0080),
    (0.0352, -0.0091, -0.0496),
    (0.1854, -0.0289, 0.1507),
    (0.0679, 0.1307, 0.0199),
    (0.3762, 0.3863, 0.4767),
)
"""Red, green and blue of each channel of a latent, and the constant last.

Fitted by `python -m training.preview_factors`: the least squares between the latents of streams of
six prompts and the mean colours of the decoded pictures where each latent is.
"""


def load_demo_model() -> ModelPatcher:
    """Load the demo's DiT with the schedule shift that its file declares, and its own colours."""
    path = str(_FOLDER / _DIT)
    model = with_shift(load_streaming_model(path, {}), declared_shift(path))
    with_demo_colours(model.get_model_object("latent_format"))
    return mark_demo(model)


def is_demo(fingerprint: ModelFingerprint | None) -> bool:
    """Return whether it is that of the demo's DiT."""
    return fingerprint is not None and fingerprint.sampled == _SAMPLED


def with_demo_colours(form: Any) -> Any:
    """Give a latent format, this one alone, the colours that the demo's latents stand for.

    It stays of its class, by whose name streams record it.
    """
    form.latent_rgb_factors = [list(row) for row in _COLOURS[:-1]]
    form.latent_rgb_factors_bias = list(_COLOURS[-1])
    return form


def load_demo_clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """Load the demo's text encoder; the host can load it again."""
    text, header = comfy.utils.load_torch_file(str(_FOLDER / _TEXT), return_metadata=True)
    with private_rng(comfy.model_management.get_torch_device()):
        clip = comfy.sd.load_text_encoder_state_dicts(
            [text],
            clip_type=comfy.sd.CLIPType.WAN,
            model_options={"umt5xxl_model_config": json.loads(header["umt5xxl_model_config"])},
            disable_dynamic=disable_dynamic,
        )
    clip.patcher.cached_patcher_init = (_demo_patcher, ("clip",))
    return clip


def load_demo_vae() -> comfy.sd.VAE:
    """Load the demo's VAE; the host can load it again."""
    weights, header = comfy.utils.load_torch_file(str(_FOLDER / _VAE), return_metadata=True)
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
