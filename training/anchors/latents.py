"""Encodes clips of journeys into latents, shard by shard, and draws batches of them.

Beside whole clips there are openings: first chunks alone, of many more journeys. A row is a pure
function of its number and the VAE. The VAE is copied when the first shard is made: latents of two
VAEs do not mix, whatever goes on to be trained.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.anchors.clips import (
    CHUNKS,
    Clip,
    origin_times,
    picture_times,
    prompt_numbers,
    state_places,
    subject_mask,
)
from training.anchors.train_vae import ENCODED_BY, START, WEIGHTS
from training.panorama.journey import Journey
from training.panorama.render import render
from training.settings import CHUNK_FRAMES, stage_logger
from training.train_vae import load_vae
from training.vae import ClipVAE

SHARD = 8
# Clips at a time: never one alone, for which a CPU has no fast convolution.
BATCH_CPU, BATCH_CARD = 2, 32
# Mean and scale of every latent channel, over 264 clips; fixed, since a DiT depends on them.
SCALE_START = Path(__file__).with_name("scale_start.safetensors")
ShardKind = Literal["shard", "opening"]
"""What a shard holds, and how its file is called."""
ROWS: dict[ShardKind, int] = {"shard": SHARD, "opening": 4 * SHARD}
FOLDER, SCALE, ROTATION = ENCODED_BY.parent, "scale.safetensors", "rotation.safetensors"


def to_video(pictures: Tensor) -> Tensor:
    """``(N, T, 3, H, W)`` of bytes to ``(N, 3, T, H, W)`` in [-1, 1]."""
    video = pictures.transpose(1, 2).float() / 127.5 - 1.0
    return video.contiguous(memory_format=torch.channels_last_3d)


@torch.no_grad()
def encode_clips(vae: ClipVAE, clips: list[Clip], device: torch.device) -> dict[str, Tensor]:
    """Paint clips and encode them.

    Returns:
        In the scale of the VAE, half precision: ``content`` ``(N, 16, 18, h, w)``, ``state``
        ``(N, 16, 6, h, w)``, the last picture of each chunk as one picture, and ``origin``
        ``(N, 16, 3, h, w)``, the first chunk after departure.
    """

    def mean(video: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return vae.encode(video)[0].float()

    journeys: list[Journey] = [clip.journey for clip in clips]
    video = to_video(render(journeys, picture_times(clips).to(device)))
    content = mean(video)
    stills = video[:, :, state_places()].transpose(1, 2).flatten(0, 1).unsqueeze(2)
    state = mean(stills.contiguous(memory_format=torch.channels_last_3d))[:, :, 0]
    origin = content[:, :, :CHUNK_FRAMES].clone()
    if away := [i for i, clip in enumerate(clips) if clip.begin]:
        times = origin_times(len(away)).to(device)
        origin[away] = mean(to_video(render([journeys[i] for i in away], times)))
    made = {
        "content": content,
        "state": state.unflatten(0, (len(clips), CHUNKS)).transpose(1, 2),
        "origin": origin,
    }
    return {name: value.half().cpu().contiguous() for name, value in made.items()}


@torch.no_grad()
def encode_openings(vae: ClipVAE, clips: list[Clip], device: torch.device) -> dict[str, Tensor]:
    """Paint first chunks and encode them: ``content`` ``(N, 16, 3, h, w)`` and one ``state``."""
    times = origin_times(len(clips)).to(device)
    video = to_video(render([clip.journey for clip in clips], times))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        content, state = vae.encode(video)[0], vae.encode(video[:, :, -1:])[0]
    made = {"content": content, "state": state}
    return {name: value.float().half().cpu().contiguous() for name, value in made.items()}


def clips_of(kind: ShardKind, index: int) -> list[Clip]:
    """Return the clips of a shard."""
    draw = Clip.draw if kind == "shard" else Clip.draw_opening
    return [draw(ROWS[kind] * index + row) for row in range(ROWS[kind])]


def shard_path(folder: Path, index: int, kind: ShardKind = "shard") -> Path:
    return folder / FOLDER / f"{kind}_{index:05d}.safetensors"


def encode_shards(
    folder: Path, indices: list[int], device: torch.device, kind: ShardKind = "shard"
) -> None:
    """Encode the shards of a folder that are not there yet."""
    indices = [index for index in indices if not shard_path(folder, index, kind).exists()]
    vae = load_vae(folder / ENCODED_BY).to(device)
    clips = [clip for index in indices for clip in clips_of(kind, index)]
    batch = BATCH_CPU if device.type == "cpu" else BATCH_CARD
    encode = encode_clips if kind == "shard" else encode_openings
    parts = [
        encode(vae, clips[first : first + batch], device) for first in range(0, len(clips), batch)
    ]
    for place, index in enumerate(indices):
        rows = slice(ROWS[kind] * place, ROWS[kind] * (place + 1))
        shard = {name: torch.cat([part[name] for part in parts])[rows] for name in parts[0]}
        write_whole(shard, shard_path(folder, index, kind))


def encode_job(job: tuple[Path, int, ShardKind]) -> int:
    torch.set_num_threads(1)
    folder, index, kind = job
    encode_shards(folder, [index], torch.device("cpu"), kind)
    return index


def write_whole(tensors: dict[str, Tensor], path: Path, meta: dict[str, str] | None = None) -> None:
    """Write a file aside and rename it: a reader, or a stop, may come at any moment."""
    partial = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, meta)
    partial.rename(path)


def make_latents(
    folder: Path,
    minutes: float,
    workers: int,
    device: torch.device,
    most: int = 100_000,
    kind: ShardKind = "shard",
) -> int:
    """Encode shards of a kind until time is up or there are ``most``; at least one each time.

    The VAE is the folder's, or, if none was trained there, the one that training begins with, which
    the kept base knows.

    Returns:
        How many shards there are.
    """
    log, begin = stage_logger("latents"), time.monotonic()
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    if not (folder / ENCODED_BY).exists():
        vae = folder / WEIGHTS if (folder / WEIGHTS).exists() else START
        shutil.copyfile(vae, folder / FOLDER / "vae.part")
        (folder / FOLDER / "vae.part").rename(folder / ENCODED_BY)
    if not (folder / FOLDER / SCALE).exists():
        shutil.copyfile(SCALE_START, folder / FOLDER / SCALE)
    wanted = (i for i in range(most) if not shard_path(folder, i, kind).exists())

    def told(index: int) -> None:
        log.info("%.0f s: %s %d", time.monotonic() - begin, kind, index)

    if device.type == "cuda":
        group = BATCH_CARD // SHARD
        while indices := list(islice(wanted, group)):
            encode_shards(folder, indices, device, kind)
            told(indices[-1])
            if time.monotonic() - begin > 60.0 * minutes:
                break
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            pending = [pool.submit(encode_job, (folder, i, kind)) for i in islice(wanted, workers)]
            while pending:
                told(pending.pop(0).result())
                if time.monotonic() - begin < 60.0 * minutes:
                    more = islice(wanted, 1)
                    pending += [pool.submit(encode_job, (folder, i, kind)) for i in more]
    return len(whole_shards(folder, kind))


def whole_shards(folder: Path, kind: ShardKind = "shard") -> list[Path]:
    """Return the shards from the first on, up to the first that is missing."""
    paths = sorted((folder / FOLDER).glob(f"{kind}_*.safetensors"))
    return [path for index, path in enumerate(paths) if path == shard_path(folder, index, kind)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips of one kind, normalised.

    Args:
        blocks: State and content of every chunk ``(B, 6, 16, 4, h, w)``; of openings, one.
        origin: The first chunk after departure ``(B, 16, 3, h, w)``.
        chunks_before: Chunks between departure and the clip ``(B,)``, 0 for all that begin there.
        mask: Cells that the subject touches ``(B, 6, 4, h, w)``.
        prompts: Number of each prompt in the training split.
    """

    blocks: Tensor
    origin: Tensor
    chunks_before: Tensor
    mask: Tensor
    prompts: tuple[int, ...]

    @property
    def departs(self) -> bool:
        """Whether the clips begin at departure, as a stream does."""
        return not bool(self.chunks_before.any())


@dataclass(frozen=True, slots=True)
class LatentScale:
    """Mean and spread of every channel ``(16, 1, 1, 1)``, on the device."""

    mean: Tensor
    std: Tensor

    @classmethod
    def read(cls, folder: Path, device: torch.device) -> LatentScale:
        """Read the scale of a folder's latents."""
        scale = load_file(folder / FOLDER / SCALE)
        return cls(*(scale[name].view(-1, 1, 1, 1).to(device) for name in ("mean", "std")))

    def normalised(self, latents: Tensor) -> Tensor:
        """Bring latents ``(B, 16, T, h, w)`` of the VAE to the scale that the DiT sees."""
        return (latents.float() - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Shards:
    """What the whole shards of a kind hold, put together, and the clips that it is of."""

    parts: dict[str, Tensor]
    clips: tuple[Clip, ...]
    scale: LatentScale

    @classmethod
    def read(cls, folder: Path, kind: ShardKind, device: torch.device, stage: str) -> Shards:
        """Read them.

        Raises:
            FileNotFoundError: There are none, and ``stage`` makes them.
        """
        paths = whole_shards(folder, kind)
        if not paths or not (folder / FOLDER / SCALE).exists():
            raise FileNotFoundError(f"{folder} holds no {stage}, make some with stage {stage}")
        shards = [load_file(path) for path in paths]
        parts = {n: torch.cat([shard[n] for shard in shards]).to(device) for n in shards[0]}
        clips = tuple(clip for index in range(len(paths)) for clip in clips_of(kind, index))
        return cls(parts, clips, LatentScale.read(folder, device))


@dataclass(frozen=True, slots=True)
class LatentSet:
    """All shards on disk, in memory, half precision, in the scale of the VAE."""

    content: Tensor
    state: Tensor
    origin: Tensor
    clips: tuple[Clip, ...]
    mask: Tensor
    scale: LatentScale

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> LatentSet:
        """Read a folder.

        Raises:
            FileNotFoundError: It holds no latents.
        """
        shards = Shards.read(folder, "shard", device, "latents")
        mask = subject_mask(shards.clips).to(device)
        return cls(**shards.parts, clips=shards.clips, mask=mask, scale=shards.scale)

    def __len__(self) -> int:
        return len(self.clips)

    def rows(self, departs: bool) -> list[int]:
        """Return the rows that begin at departure, or the others."""
        return [row for row, clip in enumerate(self.clips) if (clip.begin == 0) is departs]

    def batch(self, rows: list[int]) -> Batch:
        """Put rows together, all of which begin at departure or none."""
        content, state, origin = (
            self.scale.normalised(latents[rows])
            for latents in (self.content, self.state, self.origin)
        )
        chunks = content.unflatten(2, (CHUNKS, CHUNK_FRAMES)).transpose(1, 2)
        states = state.transpose(1, 2).unsqueeze(3)
        clips = [self.clips[row] for row in rows]
        numbers = prompt_numbers()
        before = [clip.begin / (4 * CHUNK_FRAMES) for clip in clips]
        return Batch(
            blocks=torch.cat([states, chunks], 3),
            origin=origin,
            chunks_before=torch.tensor(before, device=content.device),
            mask=self.mask[rows],
            prompts=tuple(numbers[clip.prompt] for clip in clips),
        )


@dataclass(frozen=True, slots=True)
class OpeningSet:
    """All openings on disk, in memory, half precision, in the scale of the VAE."""

    content: Tensor
    state: Tensor
    clips: tuple[Clip, ...]
    mask: Tensor
    scale: LatentScale

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> OpeningSet:
        """Read a folder.

        Raises:
            FileNotFoundError: It holds no openings.
        """
        shards = Shards.read(folder, "opening", device, "openings")
        mask = subject_mask(shards.clips)[:, :1].to(device)
        return cls(**shards.parts, clips=shards.clips, mask=mask, scale=shards.scale)

    def __len__(self) -> int:
        return len(self.clips)

    def batch(self, rows: list[int]) -> Batch:
        """Put rows together, each a way of one chunk."""
        content, state = (
            self.scale.normalised(latents[rows]) for latents in (self.content, self.state)
        )
        numbers = prompt_numbers()
        return Batch(
            blocks=torch.cat([state, content], 2).unsqueeze(1),
            origin=content,
            chunks_before=torch.zeros(len(rows), device=content.device),
            mask=self.mask[rows],
            prompts=tuple(numbers[self.clips[row].prompt] for row in rows),
        )
