"""Weights as artists load them: every form ComfyUI quantises to, and those of loader packs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

OLD_SCALED_FP8 = "scaled_fp8"
FORMS = (
    OLD_SCALED_FP8,
    "float8_e4m3fn",
    "float8_e5m2",
    "nvfp4",
    "mxfp8",
    "int8_tensorwise",
    "int8_tensorwise-convrot",
    "convrot_w4a4",
)


def quantise(weights: dict[str, Tensor], form: str) -> dict[str, Tensor]:
    """Return a state dict whose linear layers within blocks are quantised."""
    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith(".weight") and weight.ndim == 2 and "blocks" in name:
            layer = name.removesuffix(".weight")
            write = _old_scaled_fp8 if form == OLD_SCALED_FP8 else _in_host_form
            made.update(write(layer, weight.bfloat16(), form))
        else:
            made[name] = weight
    if form == OLD_SCALED_FP8:
        made["scaled_fp8"] = torch.empty(0, dtype=torch.float8_e4m3fn)
    return made


def _old_scaled_fp8(layer: str, weight: Tensor, form: str) -> dict[str, Tensor]:
    scale = weight.abs().max().float() / 448
    packed = (weight.float() / scale).to(torch.float8_e4m3fn)
    return {
        f"{layer}.weight": packed,
        f"{layer}.scale_weight": scale,
        f"{layer}.scale_input": torch.ones(()),
    }


def _in_host_form(layer: str, weight: Tensor, form: str) -> dict[str, Tensor]:
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    name, _, rotated = form.partition("-")
    options: dict[str, Any] = {}
    said: dict[str, Any] = {"format": name}
    if name in ("float8_e4m3fn", "float8_e5m2", "nvfp4"):
        options["scale"] = "recalculate"
    if rotated or name == "convrot_w4a4":
        options["convrot_groupsize"] = said["convrot_groupsize"] = 64
    if rotated:
        options.update(convrot=True, per_channel=True)
        said["convrot"] = True
    layout = QUANT_ALGOS[name]["comfy_tensor_layout"]
    packed = QuantizedTensor.from_float(weight, layout, **options).state_dict(f"{layer}.weight")
    said_bytes = list(json.dumps(said).encode())
    extra = {f"{layer}.comfy_quant": torch.tensor(said_bytes, dtype=torch.uint8)}
    if name in ("float8_e4m3fn", "float8_e5m2"):
        extra[f"{layer}.input_scale"] = torch.ones(())
    return {**packed, **extra}


class PackedTensor(torch.Tensor):
    """PlainKV bytes that say another shape, as those of a GGUF file."""

    tensor_shape: torch.Size
    patches: list[Any]

    @classmethod
    def pack(cls, weight: Tensor) -> PackedTensor:
        made = weight.half().contiguous().view(torch.uint8).as_subclass(cls)
        return made._like(weight.shape)

    def _like(self, shape: torch.Size, patches: Any = ()) -> PackedTensor:
        self.tensor_shape, self.patches = shape, list(patches)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        moved = super().to(*args, **kwargs)
        return moved._like(self.tensor_shape, self.patches)

    def detach(self) -> PackedTensor:
        return self

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        return self

    @property
    def shape(self) -> Any:
        return getattr(self, "tensor_shape", self.size())

    def decode(self) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return self.as_subclass(torch.Tensor).view(torch.float16)


def packed_model(weights: dict[str, Tensor]) -> Any:
    """Load weights as a GGUF loader does: packed, patched when they are used."""
    import comfy.lora
    import comfy.ops
    import comfy.sd
    from comfy.model_patcher import ModelPatcher

    class Linear(comfy.ops.manual_cast.Linear):  # type: ignore[misc]
        def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
            for name in ("weight", "bias"):
                value = torch.nn.Parameter(state[f"{prefix}{name}"], requires_grad=False)
                setattr(self, name, value)

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            # What a loader pack tells ComfyUI for its count of memory.
            for name in ("weight", "bias", "temp.weight"):
                destination[f"{prefix}{name}"] = torch.empty(4, device="meta")

        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight
            if isinstance(weight, PackedTensor):
                plain = weight.decode().to(x.dtype)
                for patches, key in weight.patches:
                    plain = comfy.lora.calculate_weight(patches, plain, key)
            else:
                plain = weight.to(x.dtype)
            return linear(x, plain, self.bias.to(x.dtype))

    class Operations(comfy.ops.manual_cast):  # type: ignore[misc]
        pass

    Operations.Linear = Linear

    class Patcher(ModelPatcher):  # type: ignore[misc]
        def patch_weight_to_device(self, key: str, *args: Any, **kwargs: Any) -> Any:
            weight = comfy.utils.get_attr(self.model, key)
            if not isinstance(weight, PackedTensor):
                return super().patch_weight_to_device(key, *args, **kwargs)
            patches = [(self.patches[key], key)] if key in self.patches else []
            moved = weight.to(args[0] if args else kwargs.get("device_to") or weight.device)
            moved.patches = patches
            comfy.utils.set_attr_param(self.model, key, moved)
            return None

        def unpatch_model(self, *args: Any, **kwargs: Any) -> None:
            for weight in self.model.parameters():
                if isinstance(weight, PackedTensor):
                    weight.patches = []
            super().unpatch_model(*args, **kwargs)

    state = {
        name: PackedTensor.pack(w) if w.ndim == 2 and "blocks" in name else w
        for name, w in weights.items()
    }
    model = comfy.sd.load_diffusion_model_state_dict(state, {"custom_operations": Operations})
    cast(Any, model).__class__ = Patcher
    return model


def scaled_model(weights: dict[str, Tensor]) -> Any:
    """Load weights as a pack does whose layers keep a scale that is no attribute."""
    import comfy.ops
    import comfy.sd

    class Linear(comfy.ops.manual_cast.Linear):  # type: ignore[misc]
        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            super()._save_to_state_dict(destination, prefix, keep_vars)
            destination[f"{prefix}scale_weight"] = torch.ones(())
            destination[f"{prefix}quant.state"] = torch.full((3,), float(id(destination)))

    class Operations(comfy.ops.manual_cast):  # type: ignore[misc]
        pass

    Operations.Linear = Linear
    options = {"custom_operations": Operations}
    return comfy.sd.load_diffusion_model_state_dict(dict(weights), options)


def hidden_model(weights: dict[str, Tensor]) -> Any:
    """Load weights as a pack does whose layers have no parameters at all."""
    import comfy.ops
    import comfy.sd

    class Linear(torch.nn.Module):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()

        def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
            self._packed = state[f"{prefix}weight"], state.get(f"{prefix}bias")

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            destination[f"{prefix}weight"], destination[f"{prefix}bias"] = self._packed

        def forward(self, x: Tensor) -> Tensor:
            return linear(x, *(part.to(x.dtype) for part in self._packed))

    class Operations(comfy.ops.manual_cast):  # type: ignore[misc]
        pass

    Operations.Linear = Linear
    options = {"custom_operations": Operations}
    return comfy.sd.load_diffusion_model_state_dict(dict(weights), options)


PACKS = {"packed": packed_model, "scaled": scaled_model, "hidden": hidden_model}


def stock(path: Path, weight_dtype: str = "default") -> Any:
    """Load a file by ComfyUI's Load Diffusion Model."""
    import folder_paths

    import nodes

    folder_paths.filename_list_cache.clear()
    with torch.inference_mode():
        return nodes.UNETLoader().load_unet(path.name, weight_dtype)[0]


def with_lora(model: Any, seed: int = 3) -> Any:
    """Put a LoRA on attention and feed-forward, as Load LoRA does."""
    import comfy.sd

    source = torch.Generator().manual_seed(seed)
    weights = {}
    for block in range(2):
        for part in ("self_attn.q", "self_attn.k", "ffn.0"):
            name = f"diffusion_model.blocks.{block}.{part}"
            rows, columns = (256, 128) if part == "ffn.0" else (128, 128)
            weights[f"{name}.lora_up.weight"] = torch.randn((rows, 4), generator=source) * 0.05
            weights[f"{name}.lora_down.weight"] = torch.randn((4, columns), generator=source) * 0.5
    with torch.inference_mode():
        return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]
