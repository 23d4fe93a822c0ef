"""Tiny random checkpoints of ComfyUI's real model classes, loadable through its stock loaders.

Built once per recipe (this file's content) into `.cache/test-models`, in a process of its own, so
that callers need neither torch nor ComfyUI on their path.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]

# Names as the loaders' widgets show them.
WAN = "tiny_wan.safetensors"
WAN_CAUSAL = "tiny_wan_causal.safetensors"
WAN_LARGER = "tiny_wan_2heads.safetensors"
WAN_22_5B = "tiny_wan22_5b.safetensors"
WAN_LOW = "tiny_wan_low_noise.safetensors"
WAN_I2V = "tiny_wan_i2v.safetensors"
WAN_22_I2V = "tiny_wan22_i2v.safetensors"
WAN_CONTROL = "tiny_wan_control.safetensors"
WAN_VAE = "tiny_wan_vae.safetensors"
COSMOS = "tiny_cosmos_predict2.safetensors"
KANDINSKY = "tiny_kandinsky5.safetensors"
HUNYUAN = "tiny_hunyuan_video.safetensors"
HUNYUAN_15 = "tiny_hunyuan_video15.safetensors"
LTXV = "tiny_ltxv.safetensors"
LTXV_CAUSAL = "tiny_ltxv_causal.safetensors"
LTX2 = "tiny_ltx2.safetensors"
LTX2_INTERLEAVED = "tiny_ltx2_interleaved.safetensors"
LTX23 = "tiny_ltx23.safetensors"
LTX25 = "tiny_ltx25.safetensors"
LTX23_WHOLE = "tiny_ltx23_whole.safetensors"
MINIMAX_H3 = "tiny_minimax_h3.safetensors"
MINIMAX_H3_CURVE = "tiny_minimax_h3_curve.safetensors"

BESIDE = ("tiny_ltx2", "tiny_vaes")
"""Modules of this folder that are part of the recipe."""


def ensure_tiny_models(tree: Path, python: str | Path = sys.executable) -> Path:
    """Return a folder laid out like ComfyUI's `models`, building it when it is missing.

    Args:
        tree: A ComfyUI tree; the files are the same for every version that knows their models.
        python: Interpreter with ComfyUI's requirements.
    """
    sources = [Path(__file__), *(Path(__file__).with_name(f"{name}.py") for name in BESIDE)]
    recipe = hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()[:12]
    if not has_minimax(tree):
        recipe += "-older"
    if has_marks(tree):
        recipe += "-newer"
    target = ROOT / ".cache" / "test-models" / recipe
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="building-"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        subprocess.run(
            [str(python), __file__, str(tree), str(scratch)], check=True, env=environment
        )
        if not target.is_dir():  # another process may have been faster
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def has_minimax(tree: Path) -> bool:
    """Say whether a ComfyUI tree knows MiniMax H3, which came after 0.27."""
    return (tree / "comfy" / "ldm" / "minimax").is_dir()


def has_marks(tree: Path) -> bool:
    """Say whether a ComfyUI tree knows LTX-2.5, which came after 0.30."""
    source = tree / "comfy" / "ldm" / "lightricks" / "model.py"
    return "keyframes_abs_pos_embedding" in source.read_text(encoding="utf-8")


def link_models(source: Path, models: Path) -> None:
    """Make every checkpoint of `source` visible in a server's models folder."""
    for file in source.rglob("*.safetensors"):
        link = models / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            try:
                link.symlink_to(file)
            except OSError:  # Windows without the privilege to make links
                shutil.copyfile(file, link)


def _wan(
    heads: int, layers: int, seed: int, channels: int = 16, joined: int = 0, vision: bool = False
) -> dict[str, torch.Tensor]:
    import comfy.ops
    import torch
    from comfy.ldm.wan.model import WanModel

    # ComfyUI derives the head count from the width, 128 to a head.
    model = WanModel(
        model_type="i2v" if vision else "t2v",
        dim=128 * heads,
        ffn_dim=256 * heads,
        num_heads=heads,
        num_layers=layers,
        in_dim=channels + joined,
        out_dim=channels,
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    return _filled(model, seed, std=0.05)


def _cosmos(seed: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.cosmos.predict2 import MiniTrainDIT

    # Only the width is free: for one it does not know, ComfyUI takes 16 heads and 10 blocks.
    model = MiniTrainDIT(
        max_img_h=240,
        max_img_w=240,
        max_frames=128,
        in_channels=16,
        out_channels=16,
        patch_spatial=2,
        patch_temporal=1,
        concat_padding_mask=True,
        model_channels=192,
        num_blocks=10,
        num_heads=16,
        crossattn_emb_channels=1024,
        pos_emb_cls="rope3d",
        use_adaln_lora=True,
        adaln_lora_dim=256,
        rope_h_extrapolation_ratio=4.0,
        rope_w_extrapolation_ratio=4.0,
        **_build_options(),
    )
    return _filled(model, seed, std=0.05)


def _kandinsky(seed: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.kandinsky5.model import Kandinsky5

    model = Kandinsky5(
        time_dim=32,
        model_dim=128,
        ff_dim=128,
        num_text_blocks=1,
        num_visual_blocks=2,
        **_build_options(),
    )
    return _filled(model, seed, std=0.05)


def _hunyuan(seed: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    model = HunyuanVideo(
        in_channels=16,
        out_channels=16,
        vec_in_dim=768,
        context_in_dim=64,
        hidden_size=128,
        mlp_ratio=4.0,
        num_heads=1,
        depth=1,
        depth_single_blocks=1,
        axes_dim=[16, 56, 56],
        theta=256,
        patch_size=[1, 2, 2],
        qkv_bias=True,
        guidance_embed=False,
        byt5=False,
        meanflow=False,
        use_cond_type_embedding=False,
        vision_in_dim=None,
        meanflow_sum=False,
        **_build_options(),
    )
    return _filled(model, seed, std=0.05)


def _hunyuan_15(seed: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.hunyuan_video.model import HunyuanVideo

    model = HunyuanVideo(
        in_channels=65,
        out_channels=32,
        vec_in_dim=None,
        context_in_dim=64,
        hidden_size=128,
        mlp_ratio=4.0,
        num_heads=1,
        depth=2,
        depth_single_blocks=0,
        axes_dim=[16, 56, 56],
        theta=256,
        patch_size=[1, 1, 1],
        qkv_bias=True,
        guidance_embed=False,
        byt5=True,
        meanflow=True,
        use_cond_type_embedding=True,
        vision_in_dim=1152,
        meanflow_sum=True,
        **_build_options(),
    )
    return _filled(model, seed, std=0.05)


LTXV_CONFIG = {"caption_channels": 64, "num_attention_heads": 2, "attention_head_dim": 32}


def _ltxv(seed: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.lightricks.model import LTXVModel

    model = LTXVModel(cross_attention_dim=64, num_layers=2, **LTXV_CONFIG, **_build_options())
    return _filled(model, seed, std=0.05)


def _minimax(seed: int, *, curve: bool = False) -> dict[str, torch.Tensor]:
    import torch
    from comfy.ldm.minimax.model import MiniMaxH3Model

    model = MiniMaxH3Model(
        hidden_size=96,
        num_layers=2,
        token_refiner_num_layers=1,
        num_attention_heads=2,
        ffn_hidden_size=64,
        text_dim=40,
        timestep_input_dim=32,
        time_embed_hidden_size=48,
        time_embed_dim=24,
        adaln_curve_grid=9 if curve else None,
        **_build_options(),
    )
    weights = _filled(model, seed, std=0.1)
    weights["rope.inv_freq"] = 10000.0 ** (-torch.arange(16) / 16)
    return weights


def mochi_patcher(seed: int) -> Any:
    """Return a MODEL of a tiny Mochi; ComfyUI's loader knows the full size only."""
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    config = comfy.supported_models.GenmoMochi(
        {
            "image_model": "mochi_preview",
            "depth": 2,
            "patch_size": 2,
            "num_heads": 2,
            "hidden_size_x": 96,
            "hidden_size_y": 64,
            "mlp_ratio_x": 128.0,
            "mlp_ratio_y": 4.0,
            "learn_sigma": False,
            "in_channels": 12,
            "qk_norm": True,
            "qkv_bias": False,
            "out_bias": True,
            "attn_drop": 0.0,
            "timestep_scale": 1000.0,
            "use_t5": True,
            "t5_feat_dim": 64,
            "t5_token_length": 256,
            "rope_theta": 10000.0,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    model.diffusion_model.load_state_dict(_filled(model.diffusion_model, seed, std=0.05))
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, device, device)


def _build_options() -> dict[str, Any]:
    import comfy.ops
    import torch

    options = {"dtype": torch.float32, "device": "cpu"}
    return {**options, "operations": comfy.ops.disable_weight_init}


def _wan_vae(seed: int) -> dict[str, torch.Tensor]:
    from comfy.ldm.wan.vae import WanVAE

    # Only the width is free: ComfyUI reads it from the file and fixes the rest.
    vae = WanVAE(
        dim=8,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    return _filled(vae, seed, std=0.1)


def _filled(model: torch.nn.Module, seed: int, std: float) -> dict[str, torch.Tensor]:
    """Return random weights that keep activations tame: norms 1, biases 0."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    norms = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
    }
    weights = {}
    for name, value in model.state_dict().items():
        named = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
        if named or name in norms:
            weights[name] = torch.ones(value.shape)
        elif value.ndim == 1:
            weights[name] = torch.zeros(value.shape)
        else:
            weights[name] = torch.randn(value.shape, generator=generator) * std
    return weights


def _build(target: Path, tree: Path) -> None:
    from safetensors.torch import save_file

    diffusion, vae = target / "diffusion_models", target / "vae"
    diffusion.mkdir(parents=True)
    vae.mkdir()
    small = _wan(heads=1, layers=2, seed=1)
    save_file(small, diffusion / WAN)
    causal = {"config": json.dumps({"transformer": {"causal_ar": True}})}
    save_file(small, diffusion / WAN_CAUSAL, metadata=causal)
    save_file(_wan(heads=2, layers=3, seed=2), diffusion / WAN_LARGER)
    save_file(_wan(heads=1, layers=2, seed=3, channels=48), diffusion / WAN_22_5B)
    save_file(_wan(heads=1, layers=2, seed=9), diffusion / WAN_LOW)
    image = {"heads": 1, "layers": 2, "joined": 20}
    save_file(_wan(seed=10, vision=True, **image), diffusion / WAN_I2V)
    save_file(_wan(seed=11, **image), diffusion / WAN_22_I2V)
    save_file(_wan(heads=1, layers=2, seed=12, joined=32), diffusion / WAN_CONTROL)
    save_file(_hunyuan_15(seed=13), diffusion / HUNYUAN_15)
    save_file(_cosmos(seed=5), diffusion / COSMOS)
    save_file(_kandinsky(seed=6), diffusion / KANDINSKY)
    save_file(_hunyuan(seed=7), diffusion / HUNYUAN)
    ltxv = _ltxv(seed=8)
    for name, causal in ((LTXV, False), (LTXV_CAUSAL, True)):
        config = {**LTXV_CONFIG, "causal_temporal_positioning": causal}
        save_file(ltxv, diffusion / name, {"config": json.dumps({"transformer": config})})
    ltx2, vaes = map(_beside, BESIDE)
    names = (LTX2, LTX2_INTERLEAVED, LTX23, LTX23_WHOLE)
    ltx2.build(target, names, partial(_filled, std=0.12), _build_options(), vaes)
    if has_marks(tree):
        ltx2.build_ltx25(diffusion / LTX25, partial(_filled, std=0.12), _build_options())
    save_file(_wan_vae(seed=4), vae / WAN_VAE)
    if has_minimax(tree):
        save_file(_minimax(seed=14), diffusion / MINIMAX_H3)
        save_file(_minimax(seed=15, curve=True), diffusion / MINIMAX_H3_CURVE)


def _beside(name: str) -> Any:
    """Return a module of this folder; the process that builds has no package of it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _main() -> None:
    tree, target = sys.argv[1:]
    sys.path[0] = tree
    sys.argv = ["x", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    _build(Path(target), Path(tree))


if __name__ == "__main__":
    _main()
