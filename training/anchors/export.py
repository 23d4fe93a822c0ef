"""Writes a trained run as the three files that a stock host loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d

from training import text
from training.anchors.clips import Clip, picture_times
from training.anchors.latents import FOLDER, ROTATION, SCALE, whole_shards, write_whole
from training.anchors.runs import AVERAGE, run_folder, told
from training.anchors.streaming import sizes
from training.anchors.train_vae import newest_vae
from training.anchors.words import panorama_vocabulary
from training.export import (
    DIT_FILE,
    MARKER,
    SHIFT,
    TEXT_FILE,
    UMT5_CONFIG,
    VAE_FILE,
    WAN_MEAN,
    WAN_STD,
    fold_scale,
    half,
)
from training.panorama.journey import FPS, HEIGHT, WIDTH
from training.panorama.render import render
from training.preview import fit_colours, preview_rotation, rotate_dit, rotate_vae
from training.settings import VAE_DIM, stage_logger
from training.train_dit import part

ABOUT = {
    "format": "pt",
    "license": "same as the node pack",
    "trained_on": f"procedurally painted journeys along a panorama, {WIDTH}x{HEIGHT}, {FPS} fps",
    "made_by": "python -m training.anchors",
}
# Clips by which the basis is measured: some 11000 places.
MEASURED = 2
HOW = {
    "adaptive": "a hidden state in slot 0, which it makes anew with every chunk",
    "frozen": "the first chunk in slot 0",
    "none": "nothing in slot 0",
    "ema": "an average of the past in slot 0",
}


def preview_basis(folder: Path) -> Tensor:
    """Rotation ``(16, 16)`` to the latents of which the stock preview shows true colours.

    Measured once: every run on one VAE must speak the same basis.
    """
    kept = folder / FOLDER / ROTATION
    if not kept.exists():
        scale = load_file(folder / FOLDER / SCALE)
        content = load_file(whole_shards(folder)[0])["content"][:MEASURED].float()
        clips = [Clip.draw(number) for number in range(MEASURED)]
        pictures = render([clip.journey for clip in clips], picture_times(clips))
        small = avg_pool2d(pictures.flatten(0, 1).float() / 127.5 - 1.0, 8)
        small = small.unflatten(0, (MEASURED, -1))
        # The first latent frame holds one picture, each later one four.
        colours = small[:, 1:].unflatten(1, (-1, 4)).mean(2).permute(2, 0, 1, 3, 4)
        mean, std = (scale[name].view(-1, 1, 1, 1) for name in ("mean", "std"))
        points = ((content - mean) / std)[:, :, 1:].transpose(0, 1)
        rotation = preview_rotation(fit_colours(points.flatten(1).T, colours.flatten(1).T))
        write_whole({"rotation": rotation}, kept)
    return load_file(kept)["rotation"]


def export(folder: Path, name: str, target: Path) -> list[Path]:
    """Write DiT, VAE and text encoder of run ``name``: stock names, half precision.

    Raises:
        FileNotFoundError: The run is not there.
    """
    average = run_folder(folder, name) / AVERAGE
    if not average.exists():
        raise FileNotFoundError(f"{average} is missing, expected a run that was trained")
    target.mkdir(parents=True, exist_ok=True)
    weights, header = load_file(average), told(average)
    scale, rotation = load_file(folder / FOLDER / SCALE), preview_basis(folder)
    vae = {name: v.float() for name, v in load_file(newest_vae(folder)).items()}
    vae = fold_scale(vae, scale["mean"], scale["std"])
    vae = rotate_vae(vae, rotation, torch.tensor(WAN_MEAN), torch.tensor(WAN_STD))
    note = f"WanVAE dim {VAE_DIM}, trained on from the demo's: L1 and edge loss, small KL"
    save_file(half(vae), target / VAE_FILE, ABOUT | {"description": note})
    told_of = {key: header[key] for key in ("anchors", "seed", "alpha", "updates", "seconds")}
    note = (
        f"causal Wan 2.1 T2V DiT (chunk 3, window 3) with {how(header['anchors'])}: "
        f"flow matching on clips, then on its own rollouts"
    )
    config = {
        "transformer": {"text_dim": sizes(weights).text_dim},
        "sampling": {"shift": SHIFT},
    }
    about = ABOUT | told_of | {"description": note, "config": json.dumps(config)}
    model = rotate_dit(part(weights, "dit.", torch.float32), rotation)
    save_file(half(model), target / DIT_FILE, about)
    encoder = half(part(weights, "text.", torch.float32))
    vocabulary = bytearray(panorama_vocabulary())
    encoder["spiece_model"] = torch.frombuffer(vocabulary, dtype=torch.uint8).clone()
    encoder[MARKER] = torch.zeros(10240, 1, dtype=torch.float16)
    rows = {"vocab_size": weights["text.shared.weight"].shape[0]}
    config_text = json.dumps(UMT5_CONFIG | rows)
    note = f"{text.LAYERS}-layer UMT5, taught alone that every word knows the whole prompt"
    save_file(
        encoder,
        target / TEXT_FILE,
        ABOUT | {"description": note, "umt5xxl_model_config": config_text},
    )
    paths = [target / file for file in (DIT_FILE, VAE_FILE, TEXT_FILE)]
    for path in paths:
        stage_logger("export").info("%s, %.1f MB", path, path.stat().st_size / 1e6)
    return paths


def how(anchors: str) -> str:
    """Say what slot 0 holds, in a few words."""
    return HOW.get(anchors, "every anchor in turn")
