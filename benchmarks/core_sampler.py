"""Beside ComfyUI's own autoregressive sampler, on one causal checkpoint, at growing lengths.

Core's `ar_video` sees all that it has made, so a chunk costs the more the later it comes. The
width is chosen so that attention over 21 frames and everything else share the work as in Wan 2.1
1.3B at 480p. Each way and length has a process of its own, since memory that was freed once may
still count as its process's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import comfy.sample
import comfy.samplers
import torch

from benchmarks.harness import Measured, Row, forget_peak, peak, resident, run_apart, seconds
from benchmarks.models import CAUSAL, Subject, wan
from benchmarks.streams import CHUNK, Stream

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SIGMAS = (1.0, 0.0)
CORE, OURS = "ar_video", "adastate"
WAYS = (CORE, "self_forcing", OURS)
TARGETS = {21: 1.0, 42: 1.0, 84: 2.0, 168: 3.0}
"""Core's time over ours, at least, by latent frames; of its memory, 1."""


@dataclass(frozen=True)
class Core:
    """The model, and how often a video of so many latent frames is made: short ones vary more.

    `apart`: whether each has a process of its own, without which memory means nothing.
    """

    rounds: dict[int, int] = field(default_factory=lambda: {21: 3, 42: 2, 84: 1, 168: 1})
    size: tuple[int, int] = (32, 32)
    dim: int = 256
    layers: int = 3
    apart: bool = True

    def measure(self) -> Measured:
        """Return seconds and bytes of core and of two presets by length, and what follows."""
        subject = wan(self.dim, self.layers, size=self.size, config=CAUSAL)
        videos: dict[int, dict[str, dict[str, float]]] = {}
        for frames, rounds in self.rounds.items():
            calls = {way: partial(video, subject, way, frames, rounds) for way in WAYS}
            videos[frames] = {
                way: run_apart(call)[0] if self.apart else call() for way, call in calls.items()
            }
        over = {
            frames: {measure: runs[CORE][measure] / runs[OURS][measure] for measure in runs[CORE]}
            for frames, runs in videos.items()
        }
        first, last = min(videos), max(videos)
        rows = [
            Row(
                f"core's {name} over ours, {frames} latent frames",
                ratios[measure],
                TARGETS[frames] if measure == "seconds" else 1.0,
                at_least=True,
            )
            for measure, name in (("seconds", "time"), ("bytes", "memory"))
            for frames, ratios in over.items()
        ]
        details = {
            "core_over_ours_168": over[168]["seconds"],
            "core_over_ours": over,
            "videos": videos,
            "chunk_growth": {
                way: videos[last][way]["seconds"] / videos[first][way]["seconds"] * first / last
                for way in WAYS
            },
            "setting": {
                "dim": self.dim,
                "layers": self.layers,
                "sigmas": SIGMAS,
                "rounds": list(self.rounds.values()),
                "tokens_per_frame": subject.tokens_per_frame,
            },
        }
        return Measured(rows, details)


def video(subject: Subject, way: str, frames: int, rounds: int) -> dict[str, float]:
    """Make a video of so many latent frames and return what it took."""
    model = subject.build()
    make = _core(subject, model) if way == CORE else _ours(subject, model, way)
    make(2 * CHUNK)  # whatever happens only once
    before = resident()
    forget_peak()
    taken = statistics.median(seconds(partial(make, frames)) for _ in range(rounds))
    return {"seconds": taken, "bytes": max(peak() - before, 1)}


def _core(subject: Subject, model: ModelPatcher) -> Callable[[int], None]:
    """Return what makes a video with core's sampler, which seeds the global random state."""
    sampler = comfy.samplers.ksampler(CORE, {"num_frame_per_block": CHUNK})
    prompt, sigmas = [list(subject.conditioning())], torch.tensor(SIGMAS)

    def make(frames: int) -> None:
        source = torch.Generator().manual_seed(0)
        noise = torch.randn(subject.latent_shape(frames), generator=source)
        empty, options = torch.zeros_like(noise), {"disable_pbar": True, "seed": 0}
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            comfy.sample.sample_custom(
                model, noise, 1.0, sampler, sigmas, prompt, prompt, empty, **options
            )

    return make


def _ours(subject: Subject, model: ModelPatcher, preset: str) -> Callable[[int], None]:
    apply = {"preset": preset}
    stream = Stream(subject, model, SIGMAS, sampler="lcm", apply=apply, history_chunks=0)

    def make(frames: int) -> None:
        stream.restart()
        stream.advance(frames // CHUNK)

    return make
