"""Beside ComfyUI's own autoregressive sampler, on one causal checkpoint, at growing lengths.

Core's `ar_video` sees all that it has made, so a chunk costs the more the later it comes. The
width is chosen so that attention over 21 frames and everything else share the work as in Wan 2.1
1.3B at 480p.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.samplers
import torch

from tools.bench.models import CAUSAL, wan
from tools.bench.streams import CHUNK, Stream
from tools.bench.subject import Subject
from tools.bench.table import show
from tools.bench.timing import median, seconds
from tools.inprocess import Pack

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

DIM, LAYERS = 256, 3
SUBJECT = Subject(partial(wan, dim=DIM, layers=LAYERS, config=CAUSAL), 4096, side=32)
SIGMAS = (1.0, 0.0)
ROUNDS = {21: 3, 84: 1, 168: 1}
"""Latent frames of a video, and how often it is made: what is short varies more."""
CORE, PRESETS = "ar_video", ("self_forcing", "adastate")
WAYS = (CORE, *PRESETS)


def measure(pack: Pack) -> dict[str, Any]:
    """Return the seconds of core and of two presets by length, and what follows from them."""
    ways = _ways(pack)
    for make in ways.values():
        make(2 * CHUNK)
    taken = {}
    for frames, rounds in ROUNDS.items():
        print(f"core: {frames} latent frames", flush=True)
        runs = [_round(ways, frames) for _ in range(rounds)]
        taken[frames] = {name: median(run[name] for run in runs) for name in WAYS}
    first, last = min(ROUNDS), max(ROUNDS)
    return {
        "seconds": {str(frames): run for frames, run in taken.items()},
        "over_core": {
            str(frames): {name: run[name] / run[CORE] for name in PRESETS}
            for frames, run in taken.items()
        },
        "chunk_growth": {
            name: (taken[last][name] / last) / (taken[first][name] / first) for name in WAYS
        },
        "setting": {
            "dim": DIM, "layers": LAYERS, "tokens_per_frame": SUBJECT.tokens_per_frame,
            "text_tokens": SUBJECT.text_tokens, "sigmas": SIGMAS, "rounds": list(ROUNDS.values()),
        },
    }  # fmt: skip


def report(result: dict[str, Any]) -> None:
    """Print a table."""
    rows = []
    for frames, taken in result["seconds"].items():
        ratios = result["over_core"][frames].values()
        cells = [f"{taken[name]:.1f} s" for name in WAYS] + [f"{ratio:.3f}" for ratio in ratios]
        rows.append((frames, *cells))
    growth = [f"x {result['chunk_growth'][name]:.2f}" for name in WAYS]
    show(
        "Beside core's own sampler, by latent frames",
        ("", *WAYS, *(f"{name} / core" for name in PRESETS)),
        *rows,
        (f"a chunk, {min(ROUNDS)} to {max(ROUNDS)}", *growth, *("" for _ in PRESETS)),
    )
    print("Core forwards its last chunk once more, for a cache that nothing reads; we do not.")


def _ways(pack: Pack) -> dict[str, Callable[[int], None]]:
    """Return what makes a video of so many latent frames, by name."""
    model = SUBJECT.build()
    ways: dict[str, Callable[[int], None]] = {CORE: partial(_sample, model)}
    for preset in PRESETS:
        stream = Stream(
            pack, SUBJECT, model, torch.tensor(SIGMAS), sampler="lcm", preset=preset,
            history_chunks=0,
        )  # fmt: skip
        ways[preset] = partial(_stream, stream)
    return ways


def _round(ways: dict[str, Callable[[int], None]], frames: int) -> dict[str, float]:
    return {name: seconds(partial(make, frames)) for name, make in ways.items()}


def _sample(model: ModelPatcher, frames: int) -> None:
    """Make a video with core's sampler, which seeds the global random state."""
    noise = torch.randn(SUBJECT.latent_shape(frames), generator=torch.Generator().manual_seed(0))
    sampler = comfy.samplers.ksampler(CORE, {"num_frame_per_block": CHUNK})
    prompt = [list(SUBJECT.conditioning())]
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        comfy.sample.sample_custom(
            model, noise, 1.0, sampler, torch.tensor(SIGMAS), prompt, prompt,
            torch.zeros_like(noise), disable_pbar=True, seed=0,
        )  # fmt: skip


def _stream(stream: Stream, frames: int) -> None:
    stream.restart()
    stream.advance(frames // CHUNK)
