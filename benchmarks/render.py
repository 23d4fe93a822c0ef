"""Whether a long render needs more memory than a short one, through Render Stream to Video."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
import torch
from comfy.patcher_extension import WrappersMP

from benchmarks.harness import Measured, Row, pack, peak, resident, run_apart, seconds
from benchmarks.models import wan, wan_vae
from benchmarks.streams import SIZES

SUBJECT = wan(128, 2, size=(8, 8), text_tokens=8)
VAE_DIM = 8
SIGMAS = (1.0, 0.0)


@dataclass(frozen=True)
class Render:
    """Chunks of the two renders; `apart`: each in a process of its own, else both in one."""

    short: int = 20
    long: int = 400
    apart: bool = True

    def measure(self) -> Measured:
        """Return the peaks of both renders, and their ratio."""
        calls = [partial(render, chunks) for chunks in (self.short, self.long)]
        groups = [[call] for call in calls] if self.apart else [calls]
        short, long = (run for calls in groups for run in run_apart(*calls, give_back=self.apart))
        ratio = long["peak_bytes"] / short["peak_bytes"]
        setting = {"short": self.short, "long": self.long, "sigmas": SIGMAS}
        setting |= {"vae_dim": VAE_DIM, "size": SUBJECT.size}
        details = {"rss_400_over_20": ratio, "short": short, "long": long, "setting": setting}
        name = f"peak memory, {self.long} chunks over {self.short} chunks"
        return Measured([Row(name, ratio, 1.05)], details)


def render(chunks: int) -> dict[str, Any]:
    """Render one video to a file and return what memory it took, chunk by chunk."""
    (model,) = pack().run("AdaStateApply", model=SUBJECT.build(), **SIZES)
    along: list[int] = []
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench", partial(_noted, along=along))
    empty = {"samples": torch.zeros(SUBJECT.latent_shape(1))}
    (state,) = pack().run("AdaStateNewStream", latent=empty, history_chunks=0)
    inputs = {
        "model": model,
        "state": state,
        "vae": wan_vae(VAE_DIM),
        "positive": [list(SUBJECT.conditioning())],
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor(SIGMAS),
    }
    inputs |= {"cfg": 1.0, "seed": 0, "chunks": chunks, "fps": 16.0, "filename_prefix": "bench"}
    start = resident()
    with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
        folder_paths.set_output_directory(folder)
        taken = seconds(partial(pack().run, "AdaStateRender", **inputs))
        (file,) = Path(folder).glob("*.mp4")
        size = file.stat().st_size
    return {
        "chunks": chunks,
        "frames": 1 + 4 * (3 * chunks - 1),
        "seconds": taken,
        "file_bytes": size,
        "start_bytes": start,
        "peak_bytes": peak(),
        "along_bytes": along[:: len(SIGMAS)],  # the forwards of a chunk, its commit among them
    }


def _noted(executor: Callable[..., Any], *args: Any, along: list[int], **kwargs: Any) -> Any:
    along.append(resident())
    return executor(*args, **kwargs)
