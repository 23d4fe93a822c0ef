"""Frames per second of a model of the size of Wan 2.1 1.3B, at 480 x 832, with random weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from comfy_extras.nodes_torch_compile import TorchCompileModel

from benchmarks.harness import (
    Measured,
    Row,
    finished,
    forget_peak,
    on_cuda,
    pack,
    peak,
    seconds,
)
from benchmarks.models import RealSize, tiny_vae, wan_vae
from benchmarks.streams import CHUNK, SIZES, Stream

PUBLISHED = {"Self-Forcing": 17.0, "LongLive": 20.7, "Reward-Forcing": 23.1}
"""Frames per second on one H100, as their authors give them."""
FLOORS = {
    "without_decoding": 28.0,
    "with_decoding": min(PUBLISHED.values()),
    "with_a_tiny_vae": 35.0,
}
"""Frames per second that are aimed at on one H100 or H200."""
SIGMAS = (1.0, 0.9375, 0.8333, 0.625, 0.0)
FRAMES = 4 * CHUNK
"""Pictures of a chunk, but the very first."""
BEST_ATTENTION, COMPILED, FIRST_COMPILED = 36.0, 1.15, 60.0
"""Targets: frames per second; how many times as fast as eager; seconds of the first chunk."""


@dataclass(frozen=True)
class Speed(RealSize):
    """The model, its VAE, and the chunks before and while it is timed."""

    warm_up: int = 4
    chunks: int = 12

    def measure(self) -> Measured:
        """Return frames per second and the peak of the memory, in every way to make a chunk."""
        subject = self.subject()
        history = pack().part("adastate_comfy.video.render_history").HISTORY
        model = subject.build()
        open_stream = partial(Stream, subject, sampler="lcm", history_chunks=history)
        stream = open_stream(model, SIGMAS)
        without = self._timed(stream.advance)
        pictures, vae = pack().part("adastate_comfy.video.decoders"), wan_vae(self.vae_dim)
        decoder = pictures.open_decoder(vae, subject.latent_shape(CHUNK))

        def shown() -> None:
            stream.advance()
            decoder.load()
            decoder.decode(stream.newest)

        timed = {"without_decoding": without, "with_decoding": self._timed(shown)}
        decoder = pictures.open_decoder(tiny_vae(), subject.latent_shape(CHUNK))
        timed["with_a_tiny_vae"] = self._timed(shown)
        rows = [
            Row(name.replace("_", " "), each["fps"], FLOORS[name], "fps", at_least=True)
            for name, each in timed.items()
        ]
        best = open_stream(model, SIGMAS, apply={"attention": "fastest"})
        timed["with_best_attention"] = self._timed(best.advance)
        inductor = open_stream(TorchCompileModel.execute(model, "inductor").args[0], SIGMAS)
        first = seconds(partial(finished, inductor.advance))
        timed["compiled"] = {**self._timed(inductor.advance), "first_seconds": first}
        gain = without["chunk_seconds"] / timed["compiled"]["chunk_seconds"]
        best_fps = timed["with_best_attention"]["fps"]
        rows += [
            Row("with the best attention", best_fps, BEST_ATTENTION, "fps", at_least=True),
            Row("compiled over eager", gain, COMPILED, at_least=True),
            Row("first compiled chunk", first, FIRST_COMPILED, "s"),
        ]
        setting = {**vars(self), **SIZES, "sigmas": SIGMAS}
        about: dict[str, Any] = {
            "published": PUBLISHED,
            "device": _device_name(),
            "setting": setting,
            "kernels": [asdict(each) for each in best.binding.binding.kernels.choices],
        }
        return Measured(rows, {**timed, **about})

    def _timed(self, make: Callable[[], None]) -> dict[str, float]:
        """Return frames per second of the chunks after the first ones, and the peak of memory."""
        for _ in range(self.warm_up):
            make()
        _begin_peak()
        taken = [seconds(partial(finished, make)) for _ in range(self.chunks)]
        return {
            "fps": FRAMES * len(taken) / sum(taken),
            "chunk_seconds": statistics.median(taken),
            "peak_bytes": torch.cuda.max_memory_allocated() if on_cuda() else peak(),
        }


def _device_name() -> str:
    device = comfy.model_management.get_torch_device()
    return torch.cuda.get_device_name(device) if on_cuda() else str(device)


def _begin_peak() -> None:
    if on_cuda():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()
