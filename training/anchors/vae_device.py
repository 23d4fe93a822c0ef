"""Trains the VAE in one process on crops that are painted where it trains: on a card, fast.

Loss, rates and files are those of :mod:`training.anchors.train_vae`; a run goes on from its average
alone, without the optimiser's momentum.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from training.anchors.draws import Draws
from training.anchors.latents import to_video, write_whole
from training.anchors.pictures import draw_prompt, last_departure
from training.anchors.train_vae import DECAY, ENDS, RATE, clip_shape, first_vae, require_grad
from training.optim import Average, TwoOptimizers, warmup_stable_decay
from training.panorama.journey import HEIGHT, WIDTH, Journey
from training.panorama.render import render
from training.settings import stage_logger
from training.train_vae import VaeStage, loss_of

FRAMES = 17


@dataclass(frozen=True, slots=True)
class VaeSizes:
    """How much is painted, and how much a step sees beside what it sees on a CPU."""

    pool: int = 512
    times: int = 16
    repaint_every: int = 400


def paint_pool(draws: Draws, clips: int) -> Tensor:
    """Paint clips of somewhere on a way ``(clips, 17, 3, H, W)``, bytes on the device."""
    seeds = [draws.step * clips + i for i in range(clips)]
    prompts = [draw_prompt(seed) for seed in seeds]
    ends = torch.tensor([last_departure(prompt, FRAMES) for prompt in prompts])
    begin = (draws.uniform("begin", clips) * ends).floor()
    times = torch.arange(FRAMES, dtype=torch.float32) + begin[:, None]
    journeys = [Journey.draw(p, seed) for p, seed in zip(prompts, seeds, strict=True)]
    return render(journeys, times.to(draws.device))


def crop(pool: Tensor, draws: Draws, count: int, frames: int, height: int, width: int) -> Tensor:
    """Cut clips ``(count, 3, frames, height, width)`` in [-1, 1] out of a pool."""
    rolls = draws.uniform(f"crop:{frames}:{height}", count, 4)
    free = (len(pool), FRAMES - frames + 1, HEIGHT - height + 1, WIDTH - width + 1)
    places = (rolls * torch.tensor(free)).long().tolist()
    cut = [pool[n, t : t + frames, :, y : y + height, x : x + width] for n, t, y, x in places]
    return to_video(torch.stack(cut))


def train_vae_on(
    folder: Path,
    minutes: float,
    device: torch.device,
    sizes: VaeSizes,
    seed: int = 1,
    stage: VaeStage = "vae",
) -> Path:
    """Train a stage for ``minutes``, from what the folder has of it on, or from where it begins.

    Raises:
        FileNotFoundError: There are no latents to polish the decoder for.
    """
    log, begin = stage_logger(stage), time.monotonic()
    path = folder / f"{stage}.safetensors"
    vae = first_vae(folder, stage)
    if path.exists():
        vae.load_stock(load_file(path))
    vae.to(device)
    trained = require_grad(vae, stage)
    optimizer = TwoOptimizers(trained, lambda n, p: p.ndim == 2 and n not in ENDS, RATE, RATE)
    average, step = Average(DECAY), 0
    while (spent := time.monotonic() - begin) < 60.0 * minutes or not step:
        draws = Draws(seed, step, device)
        if step % sizes.repaint_every == 0:
            painted = Draws(seed, step // sizes.repaint_every, device)
            pool = paint_pool(painted, sizes.pool)
        share = spent / (60.0 * minutes)
        count, *shape = clip_shape(1.0 if stage == "polish" else share, step)
        source = draws.generator("latent", device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            clips = crop(pool, draws, count * sizes.times, *shape)
            loss, kl, psnr = loss_of(vae, clips, source)
            stills = crop(pool, draws, 4 * sizes.times, 1, 64, 64)
            still, _, still_psnr = loss_of(vae, stills, source)
        (loss + still).backward()
        optimizer.step(warmup_stable_decay(share, step))
        average.update(trained)
        step += 1
        if step % 25 == 0:
            told = (step, spent, float(loss.detach()), psnr, still_psnr, kl)
            log.info("step %d, %.0f s, loss %.4f, clips %.2f dB, pictures %.2f dB, kl %.3f", *told)
    vae.load_state_dict(vae.state_dict() | average.values)
    write_whole({n: v.cpu() for n, v in vae.stock_state_dict().items()}, path)
    log.info("%d steps, %.0f s", step, time.monotonic() - begin)
    return path
