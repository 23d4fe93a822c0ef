"""Trains the demo VAE on crops of the drawn world, as clips and as single pictures."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.optim import Average, TwoOptimizers, warmup_stable_decay
from training.prompts import split
from training.settings import VAE_DIM, stage_logger, work_dir
from training.vae import ClipVAE
from training.workers import Progress, new_progress, run_workers
from training.world import HEIGHT, WIDTH, render

VaeStage = Literal["vae", "polish"]
POOL_CLIPS, POOL_FRAMES = 480, 33
KL_WEIGHT = 5e-4
# Sampling and half-precision storage both shake the latents; the decoder learns to shrug it off.
EXTRA_NOISE = 0.04


def draw_pool_clip(seed: int) -> np.ndarray:
    prompts = split(unseen=False)
    prompt = prompts[int(np.random.default_rng(seed + 10_000_019).integers(len(prompts)))]
    return (render(prompt, seed, POOL_FRAMES) * 255.0 + 0.5).astype(np.uint8)


def draw_pool(path: Path) -> np.ndarray:
    """``(clips, T, H, W, 3)`` bytes, drawn once and kept on disk."""
    if not path.exists():
        with multiprocessing.Pool() as workers:
            np.save(path, np.stack(workers.map(draw_pool_clip, range(POOL_CLIPS), chunksize=8)))
    return np.load(path, mmap_mode="r")


class Crops:
    """Random crops of the pool, in [-1, 1], bf16, channels last."""

    def __init__(self, pool: np.ndarray, seed: int) -> None:
        self.pool, self.rng = pool, np.random.default_rng(seed)

    def __call__(self, count: int, frames: int, height: int, width: int) -> Tensor:
        clips, length, full_height, full_width = self.pool.shape[:4]
        out = np.empty((count, frames, height, width, 3), np.uint8)
        for i in range(count):
            t = int(self.rng.integers(length - frames + 1))
            y = int(self.rng.integers(full_height - height + 1))
            x = int(self.rng.integers(full_width - width + 1))
            clip = self.pool[int(self.rng.integers(clips))]
            out[i] = clip[t : t + frames, y : y + height, x : x + width]
        video = torch.from_numpy(out).permute(0, 4, 1, 2, 3).to(torch.bfloat16) / 127.5 - 1.0
        return video.contiguous(memory_format=torch.channels_last_3d)


def edges(x: Tensor) -> Tensor:
    """Horizontal, vertical and temporal differences, flattened into one vector."""
    parts = [x.diff(dim=-1), x.diff(dim=-2)]
    if x.shape[2] > 1:
        parts.append(x.diff(dim=2))
    return torch.cat([part.flatten() for part in parts])


def reconstruction_loss(seen: Tensor, truth: Tensor) -> Tensor:
    """L1 on pixels plus L1 on edges at three scales."""
    seen, truth = seen.float(), truth.float()
    loss = (seen - truth).abs().mean()
    for _ in range(3):
        loss = loss + (edges(seen) - edges(truth)).abs().mean()
        seen, truth = (F.avg_pool3d(v, (1, 2, 2)) for v in (seen, truth))
    return loss


def loss_of(vae: ClipVAE, video: Tensor, generator: torch.Generator) -> tuple[Tensor, float, float]:
    mean, log_var = (v.float() for v in vae.encode(video))
    kl = 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).mean()
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    spread = torch.sqrt(log_var.exp() + EXTRA_NOISE**2)
    seen = vae.decode((mean + spread * noise).to(video.dtype))
    loss = reconstruction_loss(seen, video)
    with torch.no_grad():
        psnr = -10.0 * torch.log10((seen.float() - video.float()).square().mean() / 4.0)
    return loss + KL_WEIGHT * kl, float(kl.detach()), float(psnr)


def clip_shape(progress: float, step: int) -> tuple[int, int, int, int]:
    """Clips, frames, height, width of a step: first short crops, later full and long clips."""
    if progress < 0.1:
        return 1, 5, 64, 64
    if progress < 0.5:
        return (1, 17, 64, 64) if step % 6 == 5 else (2, 9, 64, 64)
    late = ((2, 17, 64, 64), (2, 9, 64, 64), (1, 9, HEIGHT, WIDTH), (1, 33, 64, 64))
    return late[step % len(late)]


def train_vae(
    minutes: float = 26.0, seed: int = 1, workers: int = 2, stage: VaeStage = "vae"
) -> Path:
    """Train until ``minutes`` of training time are used up; continues a stopped run.

    Stage ``polish`` goes on with the decoder alone: the latents, and so a DiT, stay valid.
    """
    folder = work_dir()
    draw_pool(folder / "pool.npy")
    vae, step, spent = ClipVAE(VAE_DIM), 0, 0.0
    if stage == "polish":
        vae.load_stock(load_file(folder / "vae.safetensors"))
    if (folder / f"{stage}_resume.pt").exists():
        saved = torch.load(folder / f"{stage}_resume.pt", weights_only=True)
        vae.load_state_dict(saved["model"])
        step, spent = saved["step"], saved["spent"]
    progress = new_progress(step, spent)
    run_workers(workers, vae_worker, vae.share_memory(), progress, 60.0 * minutes, seed, stage)
    return folder / f"{stage}.safetensors"


def vae_worker(
    rank: int, vae: ClipVAE, progress: Progress, limit: float, seed: int, stage: VaeStage
) -> None:
    """Update the shared parameters; the first worker also keeps time, averages and checkpoints."""
    log, folder, polish = stage_logger(stage), work_dir(), stage == "polish"
    seed = 1000 * seed + 10 * int(progress[0]) + rank + 500 * polish
    crops = Crops(draw_pool(folder / "pool.npy"), seed)
    generator = torch.Generator().manual_seed(seed)
    frozen, ends = ("encoder.", "conv1."), ("encoder.conv1.weight", "decoder.head.2.weight")
    trained = [(n, p) for n, p in vae.named_parameters() if not (polish and n.startswith(frozen))]
    vae.requires_grad_(False)
    for _, value in trained:
        value.requires_grad_()
    optimizer = TwoOptimizers(trained, lambda n, p: p.ndim == 2 and n not in ends, 1.5e-3, 1.5e-3)
    average = Average(0.995)
    if progress[0] > 0:
        saved = torch.load(folder / f"{stage}_resume.pt", weights_only=True)
        optimizer.load_state_dict(saved["optimizer"])
        average = Average(0.995, saved["average"], int(progress[0]))
    local, psnrs, begin = 0, [0.0], time.monotonic()
    while (spent := float(progress[1])) < limit:
        share = spent / limit
        shape = clip_shape(1.0 if polish else share, int(progress[0]))
        loss, kl, psnr = loss_of(vae, crops(*shape), generator)
        loss.backward()
        stills = crops(8 if share < 0.3 and not polish else 4, 1, 64, 64)
        still, _, still_psnr = loss_of(vae, stills, generator)
        still.backward()
        norm = optimizer.step(warmup_stable_decay(share, local if rank else int(progress[0])))
        progress[0] += 1
        local += 1
        if rank:
            continue
        average.update(trained)
        begin, last = time.monotonic(), begin
        progress[1] += begin - last
        psnrs.append(psnr)
        if local % 25 == 0:
            log.info(
                "step %d, %.0f s, loss %.4f (%.2f dB), picture %.4f (%.2f dB), kl %.3f, norm %.2f",
                int(progress[0]),
                spent,
                float(loss.detach()),
                np.mean(psnrs[-25:]),
                float(still.detach()),
                still_psnr,
                kl,
                norm,
            )
        if local % 100 == 0 or float(progress[1]) >= limit:
            save_vae(folder, stage, vae, average, optimizer, progress)


def save_vae(
    folder: Path,
    stage: VaeStage,
    vae: ClipVAE,
    average: Average,
    optimizer: TwoOptimizers,
    progress: Progress,
) -> None:
    holder = ClipVAE(VAE_DIM)
    holder.load_state_dict(vae.state_dict() | average.values)
    resume = {
        "model": vae.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.values,
        "step": int(progress[0]),
        "spent": float(progress[1]),
    }
    # Written aside and renamed: a stop may come at any moment.
    torch.save(resume, folder / f"{stage}_resume.pt.part")
    save_file(holder.stock_state_dict(), folder / f"{stage}.part")
    (folder / f"{stage}_resume.pt.part").rename(folder / f"{stage}_resume.pt")
    (folder / f"{stage}.part").rename(folder / f"{stage}.safetensors")


def newest_vae(folder: Path) -> Path:
    """The polished VAE if there is one; its latents are those of the plain one."""
    polished = folder / "polish.safetensors"
    return polished if polished.exists() else folder / "vae.safetensors"


def load_vae(path: Path) -> ClipVAE:
    vae = ClipVAE(VAE_DIM)
    vae.load_stock(load_file(path))
    return vae.eval().requires_grad_(False)
