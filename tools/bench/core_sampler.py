"""Beside ComfyUI's own autoregressive sampler, on one causal checkpoint, at growing lengths.

Core's `ar_video` sees all that it has made, so a chunk costs the more the later it comes. The
width is chosen so that attention over 21 frames and everything else share the work as in Wan 2.1
1.3B at 480p. Each way and length has a process of its own, since memory that was freed once may
still count as its process's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.samplers
import torch

from tools.bench.apart import run_apart
from tools.bench.models import CAUSAL, wan
from tools.bench.resident import forget_peak, mebibytes, peak, resident
from tools.bench.streams import CHUNK, Stream
from tools.bench.subject import Subject
from tools.bench.table import Row
from tools.bench.timing import median, seconds
from tools.inprocess import Pack

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

DIM, LAYERS = 256, 3
SIGMAS = (1.0, 0.0)
CORE, OURS = "ar_video", "adastate"
WAYS = (CORE, "self_forcing", OURS)
TARGETS = {21: 1.0, 42: 1.0, 84: 2.0, 168: 3.0}
"""Core's time over ours, at least, by latent frames."""
MEMORY_TARGET = 1.0


@dataclass(frozen=True)
class Setting:
    """Sizes.

    `rounds`: latent frames, and how often such a video is made: what is short varies more.

    `apart`: whether each has a process of its own, without which memory means nothing.
    """

    rounds: dict[int, int] = field(default_factory=lambda: {21: 3, 42: 2, 84: 1, 168: 1})
    size: tuple[int, int] = (32, 32)
    apart: bool = True


FULL, SMALL = Setting(), Setting({21: 1, 168: 1}, size=(4, 4), apart=False)


def measure(pack: Pack, setting: Setting) -> dict[str, Any]:
    """Return seconds and bytes of core and of two presets by length, and what follows."""
    run = partial(run_apart, "core_sampler", "video") if setting.apart else partial(video, pack)
    taken: dict[str, dict[str, dict[str, float]]] = {}
    for frames, rounds in setting.rounds.items():
        print(f"core: {frames} latent frames", flush=True)
        taken[str(frames)] = {
            way: run(way=way, frames=frames, rounds=rounds, size=setting.size) for way in WAYS
        }
    over = {
        frames: {
            measure: runs[CORE][measure] / runs[OURS][measure] for measure in ("seconds", "bytes")
        }
        for frames, runs in taken.items()
    }
    first, last = min(setting.rounds), max(setting.rounds)
    return {
        "core_over_ours_168": over["168"]["seconds"],
        "core_over_ours": over,
        "videos": taken,
        "chunk_growth": {
            way: taken[str(last)][way]["seconds"] / taken[str(first)][way]["seconds"] * first / last
            for way in WAYS
        },
        "setting": {
            "dim": DIM, "layers": LAYERS, "sigmas": SIGMAS, "rounds": list(setting.rounds.values()),
            "tokens_per_frame": _subject(setting.size).tokens_per_frame,
        },
    }  # fmt: skip


def rows(result: dict[str, Any]) -> list[Row]:
    """Return core over ours, in time and memory, beside the targets."""
    over = {int(frames): ratios for frames, ratios in result["core_over_ours"].items()}
    names = {"seconds": "time", "bytes": "memory"}
    return [
        Row(
            f"core's {names[measure]} over ours, {frames} latent frames",
            ratios[measure],
            TARGETS[frames] if measure == "seconds" else MEMORY_TARGET,
            at_least=True,
        )
        for measure in names
        for frames, ratios in over.items()
    ]


def notes(result: dict[str, Any]) -> list[str]:
    """Return what lies behind the ratios."""
    lines = [
        f"{frames} latent frames: "
        + ", ".join(
            f"{way} {run['seconds']:.1f} s and {mebibytes(run['bytes']):.0f} MiB"
            for way, run in runs.items()
        )
        for frames, runs in result["videos"].items()
    ]
    growth = ", ".join(f"{way} x {each:.2f}" for way, each in result["chunk_growth"].items())
    lines.append(f"a chunk, from the shortest to the longest: {growth}")
    lines.append("memory is the peak above what the process held before the first video")
    lines.append("core forwards its last chunk once more, for a cache that nothing reads")
    return lines


def video(pack: Pack, way: str, frames: int, rounds: int, size: tuple[int, int]) -> dict[str, Any]:
    """Make a video of so many latent frames and return what it took."""
    subject = _subject(tuple(size))
    model = subject.build()
    make = _core(subject, model) if way == CORE else _ours(pack, subject, model, way)
    make(2 * CHUNK)  # whatever happens only once
    before = resident()
    forget_peak()
    taken = median(seconds(partial(make, frames)) for _ in range(rounds))
    return {"seconds": taken, "bytes": max(peak() - before, 1)}


def _subject(size: tuple[int, ...]) -> Subject:
    rows, columns = size
    build = partial(wan, dim=DIM, layers=LAYERS, config=CAUSAL)
    return Subject(build, 4096, size=(rows, columns))


def _core(subject: Subject, model: ModelPatcher) -> Callable[[int], None]:
    """Return what makes a video with core's sampler, which seeds the global random state."""
    sampler = comfy.samplers.ksampler(CORE, {"num_frame_per_block": CHUNK})
    prompt = [list(subject.conditioning())]

    def make(frames: int) -> None:
        source = torch.Generator().manual_seed(0)
        noise = torch.randn(subject.latent_shape(frames), generator=source)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            comfy.sample.sample_custom(
                model, noise, 1.0, sampler, torch.tensor(SIGMAS), prompt, prompt,
                torch.zeros_like(noise), disable_pbar=True, seed=0,
            )  # fmt: skip

    return make


def _ours(pack: Pack, subject: Subject, model: ModelPatcher, preset: str) -> Callable[[int], None]:
    stream = Stream(
        pack, subject, model, torch.tensor(SIGMAS), sampler="lcm", apply={"preset": preset},
        history_chunks=0,
    )  # fmt: skip

    def make(frames: int) -> None:
        stream.restart()
        stream.advance(frames // CHUNK)

    return make
