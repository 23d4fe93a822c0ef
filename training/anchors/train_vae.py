"""Trains the VAE of the panorama, on crops of painted clips, and then its decoder alone.

The decoder may go on once there are latents: they stay valid, and so does a DiT. Training begins
with what is beside this file: the shipped VAE, taught 1814 steps of the panorama. A latent space
that stays near the shipped one lets the DiT begin with what the shipped one knows.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.anchors.pictures import Crops, Pictures
from training.optim import Average, TwoOptimizers, warmup_stable_decay
from training.panorama.journey import HEIGHT, WIDTH
from training.settings import VAE_DIM, stage_logger
from training.train_vae import VaeStage, loss_of, save_vae
from training.vae import ClipVAE
from training.workers import Progress, new_progress, run_workers

START = Path(__file__).with_name("vae_start.safetensors")
WEIGHTS, POLISHED = "vae.safetensors", "polish.safetensors"
# Where the VAE goes that the latents were made with, within the folder of the latents.
ENCODED_BY = Path("latents") / WEIGHTS
RATE, DECAY = 6e-4, 0.998
# Clips, frames, height and width of a step, in turn; pictures alone are learned in every step.
# Never one clip alone: a CPU has no fast convolution for it and takes four times as long.
CROPS = ((2, 9, 64, 64), (2, 9, 64, 64), (2, 17, 64, 64))
# Whole pictures, for the attention over all of one: they cost four times a crop, so only at last.
WHOLE = (*CROPS, (2, 9, 64, 96), (2, 5, HEIGHT, WIDTH))
WHOLE_FROM = 0.75
ENCODER = ("encoder.", "conv1.")
ENDS = ("encoder.conv1.weight", "decoder.head.2.weight")


def clip_shape(share: float, step: int) -> tuple[int, int, int, int]:
    """Return clips, frames, height and width of a step at a share of the run."""
    shapes = CROPS if share < WHOLE_FROM else WHOLE
    return shapes[step % len(shapes)]


def train_vae(
    folder: Path, minutes: float, workers: int = 2, seed: int = 1, stage: VaeStage = "vae"
) -> Path:
    """Train until ``minutes`` of training time are used up; continues a stopped run.

    Stage ``polish`` goes on with the decoder of the VAE that made the latents.

    Raises:
        FileNotFoundError: There are no latents to polish it for.
    """
    vae, step, spent = first_vae(folder, stage), 0, 0.0
    Pictures.kept(folder, workers)
    if (folder / f"{stage}_resume.pt").exists():
        saved = torch.load(folder / f"{stage}_resume.pt", weights_only=True)
        vae.load_state_dict(saved["model"])
        step, spent = saved["step"], saved["spent"]
    progress = new_progress(step, spent)
    run_workers(workers, work, vae.share_memory(), progress, folder, 60.0 * minutes, seed, stage)
    return folder / f"{stage}.safetensors"


def first_vae(folder: Path, stage: VaeStage) -> ClipVAE:
    """Return what a stage begins with.

    Raises:
        FileNotFoundError: There are no latents to polish it for.
    """
    begin = START if stage == "vae" else folder / ENCODED_BY
    if not begin.exists():
        raise FileNotFoundError(f"{begin} is missing, make latents with stage latents first")
    vae = ClipVAE(VAE_DIM)
    vae.load_stock(load_file(begin))
    return vae


def require_grad(vae: ClipVAE, stage: VaeStage) -> list[tuple[str, Tensor]]:
    """Let the parameters that a stage trains require gradients, and no others; return them."""
    fixed = ENCODER if stage == "polish" else ()
    for name, value in vae.named_parameters():
        value.requires_grad_(requires_grad=not name.startswith(fixed))
    return [(name, value) for name, value in vae.named_parameters() if value.requires_grad]


def newest_vae(folder: Path) -> Path:
    """Return the VAE that decodes a folder's latents: the one that made them, or its polished self.

    Raises:
        ValueError: What was polished is another VAE.
    """
    made, polished = folder / ENCODED_BY, folder / POLISHED
    if not polished.exists():
        return made
    before, after = load_file(made), load_file(polished)
    if not all(
        torch.equal(before[n].float(), after[n].float()) for n in before if n.startswith(ENCODER)
    ):
        raise ValueError(f"{polished} does not decode these latents, remove it and polish again")
    return polished


def work(
    rank: int,
    vae: ClipVAE,
    progress: Progress,
    folder: Path,
    limit: float,
    seed: int,
    stage: VaeStage,
) -> None:
    """Update the shared parameters; the first worker also keeps time, averages and checkpoints."""
    log = stage_logger(stage)
    seed = 1000 * seed + 10 * int(progress[0]) + rank
    crops, generator = Crops(Pictures.kept(folder, 1), seed), torch.Generator().manual_seed(seed)
    trained = require_grad(vae, stage)
    optimizer = TwoOptimizers(trained, lambda n, p: p.ndim == 2 and n not in ENDS, RATE, RATE)
    average = Average(DECAY)
    if progress[0] > 0:
        saved = torch.load(folder / f"{stage}_resume.pt", weights_only=True)
        optimizer.load_state_dict(saved["optimizer"])
        average = Average(DECAY, saved["average"], int(progress[0]))
    local, told, begin = 0, torch.zeros(4), time.monotonic()
    while (spent := float(progress[1])) < limit:
        clips = crops(*clip_shape(1.0 if stage == "polish" else spent / limit, int(progress[0])))
        loss, kl, psnr = loss_of(vae, clips, generator)
        loss.backward()
        still, _, still_psnr = loss_of(vae, crops(4, 1, 64, 64), generator)
        still.backward()
        optimizer.step(warmup_stable_decay(spent / limit, local))
        progress[0] += 1
        local += 1
        if rank:
            continue
        average.update(trained)
        begin, last = time.monotonic(), begin
        progress[1] += begin - last
        told += torch.tensor([float(loss.detach()), psnr, still_psnr, kl])
        if local % 25 == 0:
            log.info(
                "step %d, %.0f s, loss %.4f, clips %.2f dB, pictures %.2f dB, kl %.3f",
                int(progress[0]),
                spent,
                *(told / 25).tolist(),
            )
            told.zero_()
        if local % 50 == 0 or float(progress[1]) >= limit:
            save_vae(folder, stage, vae, average, optimizer, progress)
