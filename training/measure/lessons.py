"""Makes what the reader learns from: encoded clips of the world, shard by shard, with the truth.

One clip in eight has no subject. Clips held out show prompts that training never sees.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.anchors.clips import Clip, middles
from training.measure.clips import empty_world, write
from training.measure.moments import STRIDE, asked
from training.measure.reader import angle_of
from training.measure.space import Space
from training.panorama.journey import ARRIVAL, SPEEDS, Journey
from training.panorama.prompts import COLOURS, SUBJECTS, split
from training.panorama.render import render
from training.settings import CHUNK_FRAMES

# Latent frames of a clip: two chunks begin in it, the first of them as a stream begins. Short
# clips are many for what they cost, and many are what readings of unseen prompts need.
FRAMES, SHARD = 4, 8
SEED = 7_000_000
# One clip in so many has no subject, and one in so many is held out.
EMPTY, HELD_OUT = 8, 8
# What training encodes has long clips: chunks that begin so many frames apart, of so many shards.
TRAINING_STEP, MOST_SHARDS = 2, 250
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

    def paint(self) -> Tensor:
        """Return pictures ``(13, 3, H, W)`` of bytes."""
        times = torch.arange(STRIDE * (FRAMES - 1) + 1, dtype=torch.float32)[None] + self.begin
        brush = empty_world if self.empty else render
        return brush([self.journey], times)[0]


def _shard(job: tuple[Path, Space, int]) -> None:
    folder, space, index = job
    torch.set_num_threads(1)
    path = folder / f"clips_{index:04d}.safetensors"
    if path.exists():
        return
    lessons = [Lesson.draw(SHARD * index + row) for row in range(SHARD)]
    latents = space.encode(torch.stack([lesson.paint() for lesson in lessons]))
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
    """Chunks ``(N, 16, 3, 14, 24)`` in half precision, and what is true of them."""

    latents: Tensor
    wanted: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.latents)

    def pick(self, rows: Tensor) -> Examples:
        """Return some examples, in single precision."""
        wanted = {name: values[rows] for name, values in self.wanted.items()}
        return Examples(self.latents[rows].float(), wanted)


def load_examples(folder: Path) -> tuple[Examples, Examples]:
    """Load what is learned and what is held out.

    Raises:
        FileNotFoundError: There is nothing to learn from.
    """
    parts: dict[bool, list[Examples]] = {False: [], True: []}
    for path in sorted(folder.glob("clips_*.safetensors")):
        stored, index = load_file(path), int(path.stem[-4:])
        lessons = [Lesson.draw(SHARD * index + row) for row in range(SHARD)]
        clips = torch.cat([stored["latents"], stored["again"]])
        lessons += lessons[-AGAIN:]
        for held_out, some in parts.items():
            rows = [row for row, lesson in enumerate(lessons) if lesson.held_out is held_out]
            if rows:
                some.append(examples_of(clips[rows], [lessons[row] for row in rows]))
    if not all(parts.values()):
        raise FileNotFoundError(f"{folder} holds no encoded clips, expected clips_*.safetensors")
    return join(parts[False]), join(parts[True])


def examples_of(clips: Tensor, lessons: Sequence[Lesson], step: int = 1) -> Examples:
    """Cut runs of three latent frames out of clips ``(N, 16, T, h, w)``, every ``step`` frames."""
    starts = range(0, clips.shape[2] - CHUNK_FRAMES + 1, step)
    latents = torch.stack([clips[:, :, s : s + CHUNK_FRAMES] for s in starts], 1).flatten(0, 1)
    whose = [lesson for lesson in lessons for _ in starts]
    runs = torch.stack([middles(torch.arange(s, s + CHUNK_FRAMES)) for s in starts])
    begins = torch.tensor([lesson.begin for lesson in lessons])
    told = asked([lesson.journey for lesson in whose], (begins[:, None, None] + runs).flatten(0, 1))

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    prompts = [lesson.journey.prompt for lesson in whose]
    wanted = {
        "place": angle_of(column([float(one.place[0]) for one in told])),
        "speed": column([float(one.speed[0]) for one in told]),
        "light": column([float(one.light[0]) for one in told]),
        "path": torch.stack([torch.from_numpy(one.path[0]).float() for one in told]),
        "present": column([float(not lesson.empty) for lesson in whose]),
        "colour": torch.tensor([COLOURS.index(prompt.colour) for prompt in prompts]),
        "subject": torch.tensor([SUBJECTS.index(prompt.subject) for prompt in prompts]),
    }
    return Examples(latents.half(), wanted)


def join(parts: Sequence[Examples]) -> Examples:
    names = parts[0].wanted
    wanted = {name: torch.cat([part.wanted[name] for part in parts]) for name in names}
    return Examples(torch.cat([part.latents for part in parts]), wanted)


def training_examples(folder: Path, space: Space) -> list[Examples]:
    """Return what the DiT learns from as examples too, where it was encoded in this space.

    Args:
        folder: Where training keeps its shards of latents, in the scale of its VAE.
        space: The space that is read.
    """
    found = []
    for path in sorted(folder.glob("shard_*.safetensors"))[:MOST_SHARDS]:
        content = space.normalised(load_file(path)["content"].float())
        first = len(content) * int(path.stem[-5:])
        clips = [Clip.draw(first + row) for row in range(len(content))]
        lessons = [Lesson(clip.journey, float(clip.begin), False, False) for clip in clips]
        found.append(examples_of(content, lessons, TRAINING_STEP))
    return found
