"""Load video models by ComfyUI's own loader, training checkpoints included."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from ...adastate_core.errors import UnsupportedFamilyError
from ..devices import private_rng
from .checkpoint import is_generator_checkpoint, unwrap_generator

WeightDtype = Literal["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"]

WEIGHT_OPTIONS: dict[WeightDtype, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
"""Options of ComfyUI's loader, by the names that Load Diffusion Model has for them."""

_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")


def load_streaming_model(
    path: str, options: dict[str, Any], disable_dynamic: bool = False
) -> ModelPatcher:
    """Load a DiT file by the host's loader, unwrapping training checkpoints first.

    Args:
        path: The file.
        options: Model options of the host's loader.
        disable_dynamic: Whether to load without Dynamic VRAM. The host asks for it where it calls
            this again, for nodes such as TorchCompileModel.

    Raises:
        UnsupportedFamilyError: If the host does not recognise the file.
    """
    # Some model classes draw initial weights.
    with private_rng(comfy.model_management.get_torch_device()):
        return _load_diffusion_model(path, options, disable_dynamic)


def with_shift(model: ModelPatcher, shift: float) -> ModelPatcher:
    """Set the shift of the noise schedule; 0 leaves the model's own."""
    return ModelSamplingSD3().patch(model, shift)[0] if shift else model


def _load_diffusion_model(
    path: str, options: dict[str, Any], disable_dynamic: bool
) -> ModelPatcher:
    load = partial(comfy.sd.load_diffusion_model, path, options, disable_dynamic)
    if not path.lower().endswith(_CHECKPOINT_SUFFIXES):
        return load()
    weights, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    if not is_generator_checkpoint(weights):
        return load()
    weights = unwrap_generator(weights)
    # These files are causal by construction but cannot say so: the host reads it from here.
    metadata = {**(metadata or {}), "config": json.dumps({"transformer": {"causal_ar": True}})}
    model = comfy.sd.load_diffusion_model_state_dict(weights, options, metadata, disable_dynamic)
    if model is None:
        raise UnsupportedFamilyError(
            "model file",
            problem=f"{Path(path).name} is no video model that ComfyUI knows",
            seen=Path(path).name,
            expected="a generator of a family ComfyUI knows",
            remedy="pick another file in Load Streaming Model",
        )
    model.cached_patcher_init = (load_streaming_model, (path, options))
    return model
