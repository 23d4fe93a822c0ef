"""Makes what the reader learns from: encoded clips of the world, shard by shard, with the truth.

One clip in eight has no subject. Clips held out show prompts that training never sees.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.measure.clips import empty_world, write
from training.measure.moments import STRIDE, asked, middles
from training.measure.reader import angle_of
from training.measure.space import Space
from training.panorama.journey import ARRIVAL, SPEEDS, Journey
from training.panorama.prompts import COLOURS, SUBJECTS, split
from training.panorama.render import render
from training.settings import CHUNK_FRAMES

# Latent frames of a clip: four chunks begin in it, the first of them as a stream begins.
FRAMES, SHARD = 6, 8
SEED = 7_000_000
# One clip in so many has no subject, and one in so many is held out.
EMPTY, HELD_OUT = 8, 8
# A shard's last clip is encoded once more from its decoded pictures: blurred as generated ones.
AGAIN = 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """One clip, everything about which follows from its number."""

    journey: Journey
    begin: float
    empty: bool
    held_out: bool

    @classmethod
    def draw(cls, number: int) -> Lesson:
        rng = np.random.default_rng(SEED + number)
        held_out = number % HELD_OUT == 5
        prompts = split(unseen=held_out)
        prompt = prompts[int(rng.integers(len(prompts)))]
        # Full stop is at twice the time that the last stretch would take at full pace.
        end = (prompt.distance + ARRIVAL) / SPEEDS[prompt.pace] + 24.0
        begin = float(int(rng.random() * end)) if rng.random() > 0.1 else 0.0
        return cls(Journey.draw(prompt, SEED + number), begin, number % EMPTY == 2, held_out)

    def encode(self, space: Space) -> Tensor:
        """Return ``(16, 6, 14, 24)``, normalised."""
        times = torch.arange(STRIDE * (FRAMES - 1) + 1, dtype=torch.float32)[None] + self.begin
        paint = empty_world if self.empty else render
        return space.encode(paint([self.journey], times))[0]


def _shard(job: tuple[Path, Space, int]) -> None:
    folder, space, index = job
    torch.set_num_threads(1)
    path = folder / f"clips_{index:04d}.safetensors"
    if path.exists():
        return
    lessons = [Lesson.draw(SHARD * index + row) for row in range(SHARD)]
    latents = torch.stack([lesson.encode(space) for lesson in lessons])
    pictures = space.decode(latents[-AGAIN:])
    again = space.encode((pictures * 255.0).round().to(torch.uint8))
    write(path, {"latents": latents, "again": again})


def make_lessons(folder: Path, space: Space, minutes: float, workers: int) -> int:
    """Encode shards that are missing until time is up; return how many there are.

    At least one shard is made. What is there is kept: more minutes add to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    begin, index = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        while index == 0 or time.monotonic() - begin < 60.0 * minutes:
            pool.map(_shard, [(folder, space, index + i) for i in range(workers)], chunksize=1)
            index += workers
    return len(list(folder.glob("clips_*.safetensors")))


@dataclass(frozen=True, slots=True)
class Examples:
    """Chunks of clips ``(N, 16, 3, 14, 24)`` and what is true of them, as the reader gives it."""

    latents: Tensor
    wanted: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.latents)

    def pick(self, rows: Tensor) -> Examples:
        return Examples(self.latents[rows], {name: v[rows] for name, v in self.wanted.items()})


def load_examples(folder: Path) -> tuple[Examples, Examples]:
    """Load what is learned and what is held out.

    Raises:
        FileNotFoundError: There is nothing to learn from.
    """
    parts: dict[bool, list[tuple[Tensor, Lesson]]] = {False: [], True: []}
    for path in sorted(folder.glob("clips_*.safetensors")):
        stored, index = load_file(path), int(path.stem[-4:])
        lessons = [Lesson.draw(SHARD * index + row) for row in range(SHARD)]
        clips = [*stored["latents"].float(), *stored["again"].float()]
        for clip, lesson in zip(clips, [*lessons, *lessons[-AGAIN:]], strict=True):
            parts[lesson.held_out].append((clip, lesson))
    if not all(parts.values()):
        raise FileNotFoundError(f"{folder} holds no encoded clips, expected clips_*.safetensors")
    learned, held_out = (_examples(parts[kind]) for kind in (False, True))
    return learned, held_out


def _examples(clips: list[tuple[Tensor, Lesson]]) -> Examples:
    """Cut every run of three latent frames out of clips."""
    starts = range(FRAMES - CHUNK_FRAMES + 1)
    latents = torch.stack([c[:, s : s + CHUNK_FRAMES] for c, _ in clips for s in starts])
    lessons = [lesson for _, lesson in clips for _ in starts]
    runs = torch.stack([middles(torch.arange(s, s + CHUNK_FRAMES)) for s in starts])
    begins = torch.tensor([lesson.begin for _, lesson in clips])
    times = (begins[:, None, None] + runs).flatten(0, 1)
    told = asked([lesson.journey for lesson in lessons], times)

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    prompts = [lesson.journey.prompt for lesson in lessons]
    wanted = {
        "place": angle_of(column([float(one.place[0]) for one in told])),
        "speed": column([float(one.speed[0]) for one in told]),
        "light": column([float(one.light[0]) for one in told]),
        "path": torch.stack([torch.from_numpy(one.path[0]).float() for one in told]),
        "present": column([float(not lesson.empty) for lesson in lessons]),
        "colour": torch.tensor([COLOURS.index(prompt.colour) for prompt in prompts]),
        "subject": torch.tensor([SUBJECTS.index(prompt.subject) for prompt in prompts]),
    }
    return Examples(latents, wanted)
