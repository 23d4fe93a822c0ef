"""What a render costs beside its parts: it makes chunks while earlier ones are encoded.

On a graphics card by the clock. On a processor, whose cores the parts share, by how long the stream
waits for encoding and writing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import comfy.model_management
import comfy.samplers
import folder_paths
import torch
from comfy.patcher_extension import WrappersMP

from benchmarks.harness import Measured, Row, pack, seconds
from benchmarks.models import RealSize, Subject, tiny_vae, wan_vae
from benchmarks.speed import SIGMAS
from benchmarks.streams import CHUNK, SIZES, Stream

FPS = 16.0
FLOOR = 33.0
"""Frames per second of a render with a tiny VAE that are aimed at on one H100 or H200."""
PARTS_ALONE = ("generation", "decoding", "encoding")


@dataclass(frozen=True)
class AlongsideAtRealSize(RealSize):
    """The model, its VAE, and the chunks before and while it is timed."""

    vaes: tuple[str, ...] = ("full", "tiny")
    codecs: tuple[str, ...] = ("h264",)
    warm_up: int = 3
    chunks: int = 12

    def measure(self) -> Measured:
        """Return what a chunk of a render takes over its parts, each of which was timed alone."""
        subject = self.subject()
        model, rows, details = subject.build(), [], {}
        for kind, codec in product(self.vaes, self.codecs):
            vae = wan_vae(self.vae_dim) if kind == "full" else tiny_vae()
            taken = self._measured(subject, model, vae, codec)
            details[f"{kind} VAE, {codec}"] = taken
            rows += _rows(taken, f", {kind} VAE, {codec}" if len(self.vaes) > 1 else "")
        return Measured(rows, {**details, "setting": {**vars(self), "sigmas": SIGMAS}})

    def _measured(self, subject: Subject, model: Any, vae: Any, codec: str) -> dict[str, float]:
        """Return the median seconds of each part and of renders, and their ratios."""
        with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
            alone = self._parts_alone(subject, model, vae, codec, Path(folder) / "a.mp4")
        render, waits = self._render(subject, model, vae, codec, decode_apart=False)
        apart, _ = self._render(subject, model, vae, codec, decode_apart=True)
        taken = {**alone, "render": render, "render_decode_apart": apart}
        generation, decoding, encoding = alone.values()
        return {
            **{f"{name}_seconds": each for name, each in taken.items()},
            # One device makes chunks and decodes them: encoding is what can hide behind that.
            "render_over_making_and_decoding": render / max(generation + decoding, encoding),
            "render_over_longest": min(render, apart) / max(alone.values()),
            "parts_over_render": sum(alone.values()) / render,
            "waits_for_encoding": waits,
            "fps": 4 * CHUNK / min(render, apart),
        }

    def _parts_alone(
        self, subject: Subject, model: Any, vae: Any, codec: str, path: Path
    ) -> dict[str, float]:
        """Return what a chunk takes in each part, one after the other."""
        stream = Stream(subject, model, SIGMAS, sampler="lcm")
        decoders, files = (
            pack().part(f"adastate_comfy.video.{name}") for name in ("decoders", "video_file")
        )
        decoder = decoders.open_decoder(vae, subject.latent_shape(CHUNK))
        rows, columns = subject.size
        form = {"fps": FPS, "crf": 20.0, "codec": codec}
        video = files.VideoFile(path, (columns * 8, rows * 8), **form)
        taken: dict[str, list[float]] = {name: [] for name in PARTS_ALONE}
        for _ in range(self.warm_up + self.chunks):
            taken["generation"].append(seconds(stream.advance))
            decoder.load()
            started = time.perf_counter()
            images = decoder.decode(stream.newest)[0]
            decoder.decode_alone(stream.newest[:, :, -1:])  # as a render does for the hidden state
            taken["decoding"].append(time.perf_counter() - started)
            taken["encoding"].append(seconds(partial(video.add, images)))
        video.close()
        return {name: statistics.median(each[self.warm_up :]) for name, each in taken.items()}

    def _render(
        self, subject: Subject, model: Any, vae: Any, codec: str, *, decode_apart: bool
    ) -> tuple[float, float]:
        """Return the median seconds from the beginning of a chunk to that of the next one.

        And the share of all of them in which the stream waits, since too many chunks wait already.
        """
        (applied,) = pack().run("AdaStateApply", model=model, **SIZES)
        begun: list[float] = []
        watch = partial(_noted, begun=begun)
        applied.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "bench", watch)
        empty = {"samples": torch.zeros(subject.latent_shape(1))}
        (state,) = pack().run("AdaStateNewStream", latent=empty, history_chunks=0)
        inputs = {
            "model": applied,
            "state": state,
            "vae": vae,
            "positive": [list(subject.conditioning())],
            "sampler": comfy.samplers.sampler_object("lcm"),
            "sigmas": torch.tensor(SIGMAS),
            "chunks": self.warm_up + self.chunks + 1,
            "decode_apart": decode_apart,
            "codec": codec,
        }
        # A stream that is remembered from before would commit less.
        pack().part("adastate_comfy.model.binding").bound_model(applied).pool.clear()
        inputs |= {"cfg": 1.0, "seed": 0, "fps": FPS, "filename_prefix": "bench"}
        with tempfile.TemporaryDirectory(prefix="adastate-bench-") as folder:
            folder_paths.set_output_directory(folder)
            waited: list[tuple[float, float]] = []
            worker = pack().part("adastate_comfy.video.bounded_worker").BoundedWorker
            with patch.object(worker, "submit", _timed(worker.submit, waited)):
                pack().run("AdaStateRender", **inputs)
        # A chunk has a forward for every step, and every one but the first a commit before them.
        forwards = len(SIGMAS)
        chunks = begun[forwards - 1 :: forwards][self.warm_up :]
        between = [later - sooner for sooner, later in pairwise(chunks)]
        waits = sum(took for at, took in waited if chunks[0] <= at < chunks[-1])
        return statistics.median(between), waits / sum(between)


@dataclass(frozen=True)
class Alongside(AlongsideAtRealSize):
    """The same, so small that a processor does it while one waits."""

    dim: int = 256
    layers: int = 2
    feed_forward: int = 1024
    size: tuple[int, int] = (8, 12)
    text_tokens: int = 84
    vae_dim: int = 8
    vaes: tuple[str, ...] = ("full",)
    codecs: tuple[str, ...] = ("h265",)
    dtype: str = "float32"


def _rows(taken: dict[str, float], which: str) -> list[Row]:
    name = f"share of a render in which it waits for encoding{which}"
    rows = [Row(name, taken["waits_for_encoding"], 0.05)]
    if comfy.model_management.get_torch_device().type == "cuda":
        rows += [
            Row(f"a render over {what}{which}", taken[ratio], 1.05)
            for what, ratio in (
                ("making and decoding alone", "render_over_making_and_decoding"),
                ("the longest of generation, decoding and encoding", "render_over_longest"),
            )
        ]
        if "tiny" in which:
            rows.append(Row(f"a render{which}", taken["fps"], FLOOR, "fps", at_least=True))
    return rows


def _noted(executor: Callable[..., Any], *args: Any, begun: list[float], **kwargs: Any) -> Any:
    begun.append(time.perf_counter())
    return executor(*args, **kwargs)


def _timed(
    submit: Callable[..., None], waited: list[tuple[float, float]]
) -> Callable[[Any, Callable[[], None]], None]:
    def timed(self: Any, call: Callable[[], None]) -> None:
        at = time.perf_counter()
        submit(self, call)
        waited.append((at, time.perf_counter() - at))

    return timed
