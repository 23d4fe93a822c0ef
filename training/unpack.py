"""Writes the shipped models back as checkpoints, so that training can go on from them anywhere.

Their latent space is kept: what `export` folded into the VAE is, from here on, how it is.
"""

from __future__ import annotations

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training import text
from training.export import DIT_FILE, MARKER, TEXT_FILE, VAE_FILE, WAN_MEAN, WAN_STD
from training.settings import ASSETS, stage_logger, work_dir
from training.train_dit import AVERAGE, RESUME


def unpack() -> None:
    """Fill an empty work folder from `assets/demo`.

    Raises:
        FileExistsError: The folder holds checkpoints already, which would be lost.
        ValueError: The shipped vocabulary is not the one that this code makes.
    """
    folder = work_dir()
    latents = folder / "latents"
    if any((folder / name).exists() for name in ("vae.safetensors", RESUME)):
        raise FileExistsError(f"{folder} holds checkpoints, expected an empty work folder")
    latents.mkdir(exist_ok=True)
    vae = {name: value.float() for name, value in load_file(ASSETS / VAE_FILE).items()}
    save_file(vae, folder / "vae.safetensors")
    scale = {"mean": torch.tensor(WAN_MEAN), "std": torch.tensor(WAN_STD)}
    save_file(scale, latents / "scale.safetensors")
    save_file({"rotation": torch.eye(len(WAN_MEAN))}, latents / "rotation.safetensors")
    encoder = load_file(ASSETS / TEXT_FILE)
    if bytes(encoder.pop("spiece_model").numpy()) != text.vocabulary():
        raise ValueError("the shipped vocabulary differs from the one of training/text.py")
    encoder.pop(MARKER)
    params = {f"dit.{name}": value.float() for name, value in load_file(ASSETS / DIT_FILE).items()}
    params |= {f"text.{name}": value.float() for name, value in encoder.items()}
    with safe_open(ASSETS / DIT_FILE, "pt") as file:
        header = file.metadata()
    meta = {"step": header["step"], "spent": header["spent"]}
    for name in (RESUME, AVERAGE):
        save_file(params, folder / name, meta)
    stage_logger("unpack").info("%s: %s steps, %s s", folder, meta["step"], meta["spent"])
