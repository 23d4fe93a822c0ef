"""Writes the shipped models: stock key names, half precision, their training in the header."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from training import dit, text
from training.preview import measure_rotation, rotate_dit, rotate_vae
from training.settings import ASSETS, VAE_DIM, stage_logger, work_dir
from training.train_dit import CONFIG, part
from training.train_vae import newest_vae
from training.vae import Z_DIM
from training.world import FPS, HEIGHT, WIDTH

DIT_FILE = "adastate_demo_dit.safetensors"
VAE_FILE = "adastate_demo_vae.safetensors"
TEXT_FILE = "adastate_demo_umt5.safetensors"
SHIFT = 3.0
# ComfyUI's latent format Wan21: what it takes away and divides by before the DiT sees a latent.
WAN_MEAN = (
    -0.7571,
    -0.7089,
    -0.9113,
    0.1075,
    -0.1745,
    0.9653,
    -0.1517,
    1.5508,
    0.4134,
    -0.0715,
    0.5517,
    -0.3632,
    -0.1922,
    -0.9497,
    0.2503,
    -0.2921,
)
WAN_STD = (
    2.8184,
    1.4541,
    2.3275,
    2.6558,
    1.2196,
    1.7708,
    2.6052,
    2.0743,
    3.2687,
    2.1526,
    2.8652,
    1.5579,
    1.6382,
    1.1253,
    2.8251,
    1.9160,
)
UMT5_CONFIG = {
    "d_model": text.D_MODEL,
    "num_layers": text.LAYERS,
    "num_heads": text.HEADS,
    "d_kv": text.HEAD_DIM,
    "d_ff": text.D_FF,
}
# The loader tells T5 sizes apart by this tensor of a layer which the demo encoder does not have.
MARKER = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"


def fold_scale(state: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Make the VAE speak Wan's latent scale, so that the host's normalisation gives unit variance.

    Args:
        state: Stock-shaped VAE parameters, fp32.
        mean: Measured mean of every latent channel ``(16,)``.
        std: Scale by which the DiT's training data was divided ``(16,)``.
    """
    state = dict(state)
    wan_mean, wan_std = torch.tensor(WAN_MEAN), torch.tensor(WAN_STD)
    gain = wan_std / std
    weight, bias = state["conv1.weight"].clone(), state["conv1.bias"].clone()
    weight[:Z_DIM] *= gain.view(-1, 1, 1, 1, 1)
    bias[:Z_DIM] = (bias[:Z_DIM] - mean) * gain + wan_mean
    bias[Z_DIM:] += 2.0 * gain.log()
    state["conv1.weight"], state["conv1.bias"] = weight, bias
    weight = state["conv2.weight"]
    offset = (weight[:, :, 0, 0, 0] @ (mean - wan_mean / gain)).to(weight.dtype)
    state["conv2.bias"] = state["conv2.bias"] + offset
    state["conv2.weight"] = weight / gain.view(1, -1, 1, 1, 1)
    return state


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    halved = {name: value.detach().half().contiguous() for name, value in state.items()}
    for name, value in halved.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} does not fit half precision, expected values under 65504")
    return halved


def export(target: Path = ASSETS) -> list[Path]:
    """Write the three files from the newest checkpoints in the work folder."""
    folder, log = work_dir(), stage_logger("export")
    target.mkdir(parents=True, exist_ok=True)
    about = {
        "format": "pt",
        "license": "same as the node pack",
        "trained_on": f"procedurally drawn shapes over scenery, {WIDTH}x{HEIGHT}, {FPS} fps",
        "made_by": "python -m training",
    }
    scale = load_file(folder / "latents" / "scale.safetensors")
    vae = fold_scale(load_file(newest_vae(folder)), scale["mean"], scale["std"])
    note = f"WanVAE dim {VAE_DIM}: L1 and edge loss on crops and clips, small KL"
    # Measured once: every export of one VAE must speak the same basis.
    basis = folder / "latents" / "rotation.safetensors"
    if not basis.exists():
        save_file({"rotation": measure_rotation(folder / "latents")}, basis)
    rotation = load_file(basis)["rotation"]
    vae = rotate_vae(vae, rotation, torch.tensor(WAN_MEAN), torch.tensor(WAN_STD))
    save_file(half(vae), target / VAE_FILE, about | {"description": note})
    average = folder / "dit_average.safetensors"
    with safe_open(average, "pt") as file:
        meta = file.metadata()
    weights = load_file(average)
    note = (
        f"causal Wan 2.1 T2V DiT with a state slot (chunk 3, window 3): flow matching, teacher "
        f"forcing and self-resampling, {meta['step']} steps, {meta['spent']} s on two CPU cores"
    )
    config = {"transformer": {"text_dim": CONFIG.text_dim}, "sampling": {"shift": SHIFT}}
    progress = {"step": meta["step"], "spent": meta["spent"]}
    header = about | progress | {"description": note, "config": json.dumps(config)}
    model = rotate_dit(part(weights, "dit.", torch.float32), rotation)
    save_file(half(model), target / DIT_FILE, header)
    encoder = half(part(weights, "text.", torch.float32))
    vocabulary = bytearray(text.vocabulary())
    encoder["spiece_model"] = torch.frombuffer(vocabulary, dtype=torch.uint8).clone()
    encoder[MARKER] = torch.zeros(10240, 1, dtype=torch.float16)
    config = UMT5_CONFIG | {"vocab_size": weights["text.shared.weight"].shape[0]}
    header = about | {
        "description": "two-layer UMT5 trained together with the DiT",
        "umt5xxl_model_config": json.dumps(config),
    }
    save_file(encoder, target / TEXT_FILE, header)
    paths = [target / name for name in (DIT_FILE, VAE_FILE, TEXT_FILE)]
    for path in paths:
        log.info("%s, %.1f MB", path, path.stat().st_size / 1e6)
    return paths


def export_shapes_match() -> bool:
    """Whether the exported DiT has exactly the parameters a stock loader expects."""
    stored = load_file(ASSETS / DIT_FILE)
    return {n: tuple(v.shape) for n, v in stored.items()} == dit.parameter_shapes(CONFIG)
