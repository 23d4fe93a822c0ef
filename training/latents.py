"""Encodes clips of the world into latents for the DiT, shard by shard, and measures their scale.

A long clip holds the content of several chunks and one state picture a chunk. A short clip is a
first chunk alone: five times cheaper, and first chunks are what needs the most variety.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.prompts import split
from training.settings import CHUNK_FRAMES, stage_logger, work_dir
from training.train_vae import load_vae
from training.vae import ClipVAE
from training.world import HEIGHT, RADIUS, WIDTH, Scene, render

LONG_CHUNKS = 4
SHARD_LONG, SHARD_SHORT = 40, 120
LONG_SEED, SHORT_SEED = 1_000_000, 5_000_000


def frames_of(chunks: int) -> int:
    """Pictures shown by ``chunks`` chunks: one for the first latent frame, four for any other."""
    return 1 + 4 * (CHUNK_FRAMES * chunks - 1)


def prompt_index(seed: int) -> int:
    return int(np.random.default_rng(seed + 10_000_019).integers(len(split(unseen=False))))


def to_video(frames: np.ndarray) -> Tensor:
    """``(T, H, W, 3)`` in [0, 1] to ``(1, 3, T, H, W)`` in [-1, 1]."""
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(torch.bfloat16) * 2.0 - 1.0
    return video.contiguous(memory_format=torch.channels_last_3d)


def shape_mask(seed: int, chunks: int) -> Tensor:
    """Latent cells the moving shape touches: ``(chunks, 4, h, w)``, state first, then content."""
    scene = Scene.draw(split(unseen=False)[prompt_index(seed)], seed)
    # A latent frame stands for four pictures; its middle is a picture and a half before its last.
    middle = np.maximum(4.0 * np.arange(CHUNK_FRAMES * chunks) - 1.5, 0.0)
    last = np.array([[frames_of(k + 1) - 1.0] for k in range(chunks)])
    when = np.concatenate([last, middle.reshape(chunks, CHUNK_FRAMES)], axis=1)
    cx, cy = scene.position(when.astype(np.float32))
    dx = np.abs((8.0 * np.arange(WIDTH // 8) + 4.0) - cx[..., None])
    dy = np.abs((8.0 * np.arange(HEIGHT // 8) + 4.0) - cy[..., None])
    dx, dy = np.minimum(dx, WIDTH - dx)[:, :, None, :], np.minimum(dy, HEIGHT - dy)[..., None]
    return torch.from_numpy(np.hypot(dx, dy) < RADIUS + 8.0)


def encode_clip(vae: ClipVAE, seed: int, chunks: int) -> tuple[Tensor, Tensor]:
    """Content ``(16, 3 * chunks, h, w)`` and states ``(16, chunks, h, w)`` of one drawn clip."""
    frames = render(split(unseen=False)[prompt_index(seed)], seed, frames_of(chunks))
    last = [frames_of(k + 1) - 1 for k in range(chunks)]
    with torch.no_grad():
        content = vae.encode(to_video(frames))[0][0]
        states = [vae.encode(to_video(frames[i : i + 1]))[0][0] for i in last]
    return content, torch.cat(states, dim=1)


def encode_shard(job: tuple[int, bool, int]) -> str:
    index, long, threads = job
    torch.set_num_threads(threads)
    kind, count = ("long", SHARD_LONG) if long else ("short", SHARD_SHORT)
    path = work_dir() / "latents" / f"{kind}_{index:04d}.safetensors"
    if path.exists():
        return path.name
    vae = load_vae(work_dir() / "vae.safetensors").to(torch.bfloat16)
    seeds = [(LONG_SEED if long else SHORT_SEED) + index * count + i for i in range(count)]
    pairs = [encode_clip(vae, seed, LONG_CHUNKS if long else 1) for seed in seeds]
    shard = {
        "content": torch.stack([content for content, _ in pairs]),
        "state": torch.stack([state for _, state in pairs]),
        "prompt": torch.tensor([prompt_index(seed) for seed in seeds]),
    }
    # Written aside and renamed: training may look for new shards at any moment.
    partial = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in shard.items()}, partial)
    partial.rename(path)
    return path.name


def measure(folder: Path) -> Path:
    """Mean and scale of every latent channel, over the shards that exist."""
    target = folder / "scale.safetensors"
    long = [
        load_file(path)["content"].float() for path in sorted(folder.glob("long_*.safetensors"))
    ]
    content = torch.cat(long)
    mean, std = content.mean((0, 2, 3, 4)), content.std((0, 2, 3, 4))
    # A channel that hardly varies holds no picture; blowing it up would only add noise to learn.
    std = torch.maximum(std, 0.4 * std.square().mean().sqrt())
    save_file({"mean": mean, "std": std}, target)
    return target


def make_latents(minutes: float = 9.0, workers: int = 2, first_shard: int = 0) -> None:
    """Encode alternating long and short shards until time is up (at least one of each)."""
    log, folder = stage_logger("latents"), work_dir() / "latents"
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    jobs = ((i // 2 + first_shard, i % 2 == 0, 1) for i in range(100_000))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pending = [pool.apply_async(encode_shard, (next(jobs),)) for _ in range(workers + 1)]
        done = 0
        while pending:
            log.info("%.0f s: %s", time.monotonic() - begin, pending.pop(0).get())
            done += 1
            if time.monotonic() - begin < 60.0 * minutes or done + len(pending) < 2:
                pending.append(pool.apply_async(encode_shard, (next(jobs),)))
    if not (folder / "scale.safetensors").exists():
        measure(folder)


@dataclass(slots=True)
class LatentSet:
    """Normalised latents of all shards on disk, in memory."""

    content: Tensor
    state: Tensor
    prompt: Tensor
    mask: Tensor

    @classmethod
    def load(cls, folder: Path, kind: str) -> LatentSet:
        scale = load_file(folder / "scale.safetensors")
        mean, std = (scale[name].view(1, -1, 1, 1, 1) for name in ("mean", "std"))
        paths = sorted(folder.glob(f"{kind}_*.safetensors"))
        # Shards may finish out of order, but a row's seed follows from its place without gaps.
        paths = [path for i, path in enumerate(paths) if path.stem == f"{kind}_{i:04d}"]
        shards = [load_file(path) for path in paths]
        parts = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
        for name in ("content", "state"):
            parts[name] = ((parts[name].float() - mean) / std).to(torch.bfloat16)
        first, chunks = LONG_SEED if kind == "long" else SHORT_SEED, parts["state"].shape[2]
        masks = [shape_mask(first + row, chunks) for row in range(len(parts["prompt"]))]
        return cls(**parts, mask=torch.stack(masks))

    def __len__(self) -> int:
        return self.content.shape[0]
