"""Keeps painted pictures of journeys on disk, and cuts crops of clips out of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.panorama.journey import HEIGHT, SPEEDS, WIDTH, Journey, truth
from training.panorama.prompts import Prompt, split
from training.panorama.render import render
from training.workers import run_jobs

CLIPS, FRAMES = 320, 33
# Half of the crops show the subject, which covers a thirtieth of a picture.
NEAR_SUBJECT = 0.5


def draw_prompt(seed: int) -> Prompt:
    """Draw a prompt of the training split; the same seed draws the same one."""
    prompts = split(unseen=False)
    return prompts[int(np.random.default_rng(seed + 10_000_019).integers(len(prompts)))]


def last_departure(prompt: Prompt, frames: int) -> float:
    """Return the latest picture of a way at which a clip may begin that still shows travel."""
    return max(0.0, prompt.distance / SPEEDS[prompt.pace] - frames)


def paint(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Paint one clip of somewhere on a way: ``(T, 3, H, W)``, and its subject's middles."""
    torch.set_num_threads(1)
    prompt = draw_prompt(seed)
    begin = np.random.default_rng(seed).random() * last_departure(prompt, FRAMES)
    times = torch.arange(FRAMES, dtype=torch.float32)[None] + float(int(begin))
    journeys = [Journey.draw(prompt, seed)]
    told = truth(journeys, times)
    middles = torch.stack([told.y[0], told.x[0]], 1).numpy()
    return render(journeys, times)[0].numpy(), middles


@dataclass(frozen=True, slots=True)
class Pictures:
    """Clips ``(N, T, 3, H, W)`` of bytes, with the middle ``(y, x)`` of the subject in each."""

    clips: NDArray[np.uint8]
    middles: NDArray[np.float32]

    @classmethod
    def kept(cls, folder: Path, workers: int) -> Pictures:
        """Open the pictures of a folder; paint them first where there are none."""
        paths = folder / "pictures.npy", folder / "middles.npy"
        if not all(path.exists() for path in paths):
            painted = list(run_jobs(workers, paint, range(CLIPS)))
            for path, parts in zip(paths, zip(*painted, strict=True), strict=True):
                np.save(path, np.stack(parts))
        return cls(np.load(paths[0], mmap_mode="r"), np.load(paths[1]))


class Crops:
    """Random crops in [-1, 1], channels last."""

    def __init__(self, pictures: Pictures, seed: int) -> None:
        self.pictures, self.rng = pictures, np.random.default_rng(seed)

    def __call__(self, count: int, frames: int, height: int, width: int) -> Tensor:
        """Cut ``count`` clips ``(count, 3, frames, height, width)``."""
        clips, length = self.pictures.clips.shape[:2]
        out = np.empty((count, frames, 3, height, width), np.uint8)
        for i in range(count):
            clip, t = int(self.rng.integers(clips)), int(self.rng.integers(length - frames + 1))
            y, x = self.corner(self.pictures.middles[clip, t + frames // 2], height, width)
            here = (slice(t, t + frames), slice(None), slice(y, y + height), slice(x, x + width))
            out[i] = self.pictures.clips[clip][here]
        video = torch.from_numpy(out).transpose(1, 2).float() / 127.5 - 1.0
        return video.contiguous(memory_format=torch.channels_last_3d)

    def corner(self, middle: NDArray[np.float32], height: int, width: int) -> tuple[int, int]:
        """Draw the upper left corner of a crop, often so that it shows the subject."""
        sizes = ((HEIGHT, height), (WIDTH, width))
        if self.rng.random() < NEAR_SUBJECT:
            shift = self.rng.uniform(-0.25, 0.25, 2)
            wanted = [
                int(m + s * part - part / 2)
                for m, s, (_, part) in zip(middle, shift, sizes, strict=True)
            ]
        else:
            wanted = [int(self.rng.integers(whole - part + 1)) for whole, part in sizes]
        low = [min(max(0, w), whole - part) for w, (whole, part) in zip(wanted, sizes, strict=True)]
        return low[0], low[1]
