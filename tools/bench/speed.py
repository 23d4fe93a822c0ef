"""Frames per second of a model of the size of Wan 2.1 1.3B, at 480 x 832, with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch

from tools.bench.models import wan, wan_vae
from tools.bench.resident import forget_peak, peak
from tools.bench.streams import CHUNK, SIZES, Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import median, seconds
from tools.inprocess import Pack

PUBLISHED = {"Self-Forcing": 17.0, "LongLive": 20.7, "Reward-Forcing": 23.1}
"""Frames per second on one H100, as their authors give them."""
SIGMAS = (1.0, 0.9375, 0.8333, 0.625, 0.0)
PICTURES = 4
"""Of a latent frame, but the very first."""


@dataclass(frozen=True)
class Setting:
    """The model, its VAE, and the chunks before and while it is timed."""

    dim: int = 1536
    layers: int = 30
    feed_forward: int = 8960
    size: tuple[int, int] = (60, 104)
    text_tokens: int = 512
    vae_dim: int = 96
    dtype: str = "bfloat16"
    warm_up: int = 4
    chunks: int = 12


FULL = Setting()
SMALL = Setting(
    dim=128,
    layers=1,
    feed_forward=256,
    size=(8, 8),
    text_tokens=8,
    vae_dim=8,
    warm_up=1,
    chunks=1,
)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return frames per second and the peak of the memory, without and with decoding."""
    subject = Subject(
        partial(
            wan, dim=setting.dim, layers=setting.layers, feed_forward=setting.feed_forward,
            dtype=getattr(torch, setting.dtype),
        ),
        4096, size=setting.size, text_tokens=setting.text_tokens,
    )  # fmt: skip
    stream = Stream(
        pack, subject, subject.build(), torch.tensor(SIGMAS), sampler="lcm",
        history_chunks=pack.part("nodes.render").HISTORY,
    )  # fmt: skip
    print("speed: without decoding", flush=True)
    without = _timed(stream.advance, setting)
    print("speed: with decoding", flush=True)
    decoder = pack.part("adastate_comfy.video.decoders").open_decoder(
        wan_vae(setting.vae_dim), subject.latent_shape(CHUNK)
    )

    def shown() -> None:
        stream.advance()
        decoder.load()
        decoder.decode(stream.newest)

    return {
        "without_decoding": without, "with_decoding": _timed(shown, setting),
        "published": PUBLISHED, "device": _device_name(),
        "setting": {**vars(setting), **SIZES, "sigmas": SIGMAS},
    }  # fmt: skip


def rows(result: dict[str, Any]) -> list[Row]:
    """Return frames per second beside the slowest of the published figures."""
    return [
        Row(
            f"{name.replace('_', ' ')}", result[name]["fps"], min(PUBLISHED.values()),
            "fps", at_least=True,
        )
        for name in ("without_decoding", "with_decoding")
    ]  # fmt: skip


def notes(result: dict[str, Any]) -> list[str]:
    """Return the memory, and the published figures."""
    figures = ", ".join(f"{name} {fps}" for name, fps in result["published"].items())
    return [
        f"on {result['device']}",
        *(
            f"{name.replace('_', ' ')}: {result[name]['chunk_seconds']:.3f} s a chunk, at most "
            f"{result[name]['peak_bytes'] / 2**30:.2f} GiB"
            for name in ("without_decoding", "with_decoding")
        ),
        f"published, in frames per second on one H100: {figures}",
    ]


def _timed(make: Any, setting: Setting) -> dict[str, float]:
    """Return frames per second of the chunks after the first ones, and the peak of memory."""
    for _ in range(setting.warm_up):
        make()
    _begin_peak()
    taken = [seconds(partial(_finished, make)) for _ in range(setting.chunks)]
    frames = PICTURES * CHUNK
    return {
        "fps": frames * len(taken) / sum(taken),
        "chunk_seconds": median(taken),
        "peak_bytes": _peak(),
    }


def _finished(make: Any) -> None:
    """Do it and wait for the device, which works on after a call has returned."""
    make()
    if _on_cuda():
        torch.cuda.synchronize()


def _on_cuda() -> bool:
    return bool(comfy.model_management.get_torch_device().type == "cuda")


def _device_name() -> str:
    device = comfy.model_management.get_torch_device()
    return torch.cuda.get_device_name(device) if _on_cuda() else str(device)


def _begin_peak() -> None:
    if _on_cuda():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if _on_cuda() else peak()
