"""Tiny random checkpoints of ComfyUI's real model classes, loadable through its stock loaders.

Built once per recipe (this file's content) into `.cache/test-models`, in a process of its own, so
that callers need neither torch nor ComfyUI on their path.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]

# Names as the loaders' widgets show them.
WAN = "tiny_wan.safetensors"
WAN_CAUSAL = "tiny_wan_causal.safetensors"
WAN_LARGER = "tiny_wan_2heads.safetensors"
WAN_22_5B = "tiny_wan22_5b.safetensors"
WAN_VAE = "tiny_wan_vae.safetensors"


def ensure_tiny_models(tree: Path, python: str | Path = sys.executable) -> Path:
    """Return a folder laid out like ComfyUI's `models`, building it when it is missing.

    Args:
        tree: A ComfyUI tree; the files are the same for every version the project supports.
        python: Interpreter with ComfyUI's requirements.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
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


def _wan(heads: int, layers: int, seed: int, channels: int = 16) -> dict[str, torch.Tensor]:
    import comfy.ops
    import torch
    from comfy.ldm.wan.model import WanModel

    # ComfyUI derives the head count from the width, 128 to a head.
    model = WanModel(
        model_type="t2v",
        dim=128 * heads,
        ffn_dim=256 * heads,
        num_heads=heads,
        num_layers=layers,
        in_dim=channels,
        out_dim=channels,
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )
    return _filled(model, seed, std=0.05)


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
    weights = {}
    for name, value in model.state_dict().items():
        if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
            weights[name] = torch.ones(value.shape)
        elif value.ndim == 1:
            weights[name] = torch.zeros(value.shape)
        else:
            weights[name] = torch.randn(value.shape, generator=generator) * std
    return weights


def _build(target: Path) -> None:
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
    save_file(_wan_vae(seed=4), vae / WAN_VAE)


def _main() -> None:
    tree, target = sys.argv[1:]
    sys.path[0] = tree
    sys.argv = ["x", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    _build(Path(target))


if __name__ == "__main__":
    _main()
