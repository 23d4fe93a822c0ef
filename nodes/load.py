"""Load models that stream: any video DiT ComfyUI knows, or the demo models of this pack."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from ..adastate_comfy.devices import private_rng
from ..adastate_comfy.model.checkpoint import (
    declared_shift,
    is_generator_checkpoint,
    unwrap_generator,
)
from ..adastate_core.errors import UnsupportedFamilyError
from .inputs import CATEGORY

DEMO_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "demo"
DEMO_DIT = "adastate_demo_dit.safetensors"
DEMO_TEXT = "adastate_demo_umt5.safetensors"
DEMO_VAE = "adastate_demo_vae.safetensors"

_WEIGHT_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


class AdaStateLoadModel(io.ComfyNode):
    """Load a video model for streaming."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateLoadModel",
            display_name="Load Streaming Model",
            category=CATEGORY,
            description="Load a video model, also a Self-Forcing style .pt file.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=folder_paths.get_filename_list("diffusion_models"),
                    tooltip="A file in models/diffusion_models. Causal Wan 2.1 models suit best.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(_WEIGHT_OPTIONS),
                    default="default",
                    advanced=True,
                    tooltip="Precision of the weights. fp8 saves memory and costs some quality.",
                ),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    advanced=True,
                    tooltip=(
                        "Shift of the noise schedule. 0 takes what the file says, else 5 for "
                        "causal models, else the model's usual value."
                    ),
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model. Wire it into Apply AdaState.")],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str, shift: float) -> io.NodeOutput:
        """Load by the host's loader."""
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        model = load_streaming_model(path, _WEIGHT_OPTIONS[weight_dtype])
        return io.NodeOutput(with_shift(model, shift or declared_shift(path)))


class AdaStateLoadDemo(io.ComfyNode):
    """Load the demo models of this pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateLoadDemo",
            display_name="Load Demo Models",
            category=CATEGORY,
            description=(
                "Load the small models that come with AdaState: shapes that move over scenery, "
                "128 x 128. They run on a laptop and need no download."
            ),
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="A small Wan model, trained with a state slot."),
                io.Clip.Output(
                    tooltip=(
                        "Its text encoder. It knows prompts such as: red circle moving left, "
                        "camera pans right, blue hills."
                    )
                ),
                io.Vae.Output(tooltip="Its VAE."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load by the host's loaders."""
        dit = str(DEMO_FOLDER / DEMO_DIT)
        model = with_shift(load_streaming_model(dit, {}), declared_shift(dit))
        clip, vae = load_demo_clip(), load_demo_vae()
        return io.NodeOutput(model, clip, vae)


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


def _load_diffusion_model(
    path: str, options: dict[str, Any], disable_dynamic: bool
) -> ModelPatcher:
    load = partial(comfy.sd.load_diffusion_model, path, options, disable_dynamic)
    if not path.lower().endswith((".pt", ".pth", ".ckpt", ".bin")):
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
            seen=Path(path).name,
            expected="a generator of a family ComfyUI knows",
            remedy="pick another file in Load Streaming Model",
        )
    model.cached_patcher_init = (load_streaming_model, (path, options))
    return model


def load_demo_clip(disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """Load the demo's text encoder; the host can load it again."""
    text, header = comfy.utils.load_torch_file(str(DEMO_FOLDER / DEMO_TEXT), return_metadata=True)
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
    weights, header = comfy.utils.load_torch_file(str(DEMO_FOLDER / DEMO_VAE), return_metadata=True)
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


def with_shift(model: ModelPatcher, shift: float) -> ModelPatcher:
    """Set the shift of the noise schedule; 0 leaves the model's own."""
    return ModelSamplingSD3().patch(model, shift)[0] if shift else model
