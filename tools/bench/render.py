"""Whether a long render needs more memory than a short one, through Render Stream to Video."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
import torch
from comfy.patcher_extension import WrappersMP

from tools.bench.apart import run_apart
from tools.bench.models import wan, wan_vae
from tools.bench.resident import mebibytes, peak, resident
from tools.bench.streams import SIZES
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import seconds
from tools.inprocess import Pack

SUBJECT = Subject(partial(wan, dim=128, layers=2), 4096, size=(8, 8), text_tokens=8)
VAE_DIM = 8
SIGMAS = (1.0, 0.0)
TARGET = 1.05


@dataclass(frozen=True)
class Setting:
    """Chunks of the two renders."""

    short: int = 20
    long: int = 400


FULL, SMALL = Setting(), Setting(short=2, long=4)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return the peaks of both renders, each in a process of its own, and their ratio."""
    del pack
    runs = {}
    for name, chunks in asdict(setting).items():
        print(f"render: {chunks} chunks", flush=True)
        runs[name] = run_apart("render", "render", give_back=True, chunks=chunks)
    return {
        "rss_400_over_20": runs["long"]["peak_bytes"] / runs["short"]["peak_bytes"],
        **runs,
        "setting": {
            **asdict(setting), "sigmas": SIGMAS, "vae_dim": VAE_DIM, "size": SUBJECT.size,
        },
    }  # fmt: skip


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the measure beside its target."""
    long, short = result["setting"]["long"], result["setting"]["short"]
    name = f"peak memory, {long} chunks over {short} chunks"
    return [Row(name, result["rss_400_over_20"], TARGET)]


def notes(result: dict[str, Any]) -> list[str]:
    """Return peaks, frames and seconds."""
    return [
        f"{run['chunks']} chunks, {run['frames']} frames: at most "
        f"{mebibytes(run['peak_bytes']):.1f} MiB, {mebibytes(run['start_bytes']):.1f} MiB "
        f"before it, {run['seconds']:.1f} s"
        for run in (result["short"], result["long"])
    ]


def render(pack: Pack, chunks: int) -> dict[str, Any]:
    """Render one video to a file and return what memory it took, chunk by chunk."""
    (model,) = pack.run("AdaStateApply", model=SUBJECT.build(), **SIZES)
    vae = wan_vae(VAE_DIM)
    along: list[int] = []
    forwards = len(SIGMAS)  # of a chunk, its commit among them
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench", partial(_noted, along=along))
    empty = {"samples": torch.zeros(SUBJECT.latent_shape(1))}
    (state,) = pack.run("AdaStateNewStream", latent=empty, history_chunks=0)
    start = resident()
    with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
        folder_paths.set_output_directory(folder)
        job = partial(
            pack.run, "AdaStateRender", model=model, state=state, vae=vae,
            positive=[list(SUBJECT.conditioning())], cfg=1.0, seed=0, chunks=chunks, fps=16.0,
            sampler=comfy.samplers.sampler_object("lcm"), sigmas=torch.tensor(SIGMAS),
            filename_prefix="bench",
        )  # fmt: skip
        taken = seconds(job)
        (file,) = Path(folder).glob("*.mp4")
        size = file.stat().st_size
    return {
        "chunks": chunks, "frames": 1 + 4 * (3 * chunks - 1), "seconds": taken,
        "file_bytes": size, "start_bytes": start, "peak_bytes": peak(),
        "along_bytes": along[::forwards],
    }  # fmt: skip


def _noted(executor: Callable[..., Any], *args: Any, along: list[int], **kwargs: Any) -> Any:
    along.append(resident())
    return executor(*args, **kwargs)
