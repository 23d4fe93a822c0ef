"""Trains DiT and text encoder together on latents, with the layout that inference will use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from training import dit, text
from training.dit import DitConfig, Groups, Params
from training.latents import LONG_CHUNKS, LatentSet
from training.optim import Average, TwoOptimizers, warmup_stable_decay
from training.prompts import split
from training.rollout import Stream
from training.settings import stage_logger, work_dir
from training.workers import Progress, new_progress, run_workers

CONFIG = DitConfig(dim=256, ffn_dim=1024, layers=4, text_dim=text.D_MODEL)
RESUME = "dit_resume.safetensors"
AVERAGE = "dit_average.safetensors"


@dataclass(frozen=True, slots=True)
class DitRun:
    """How long and on what; ``minutes`` of training time, not of wall clock."""

    minutes: float = 145.0
    long_clips: int = 4
    short_clips: int = 12
    copies: int = 2
    shift: float = 3.0
    text_dropout: float = 0.09
    context_noise: float = 0.3
    muon_lr: float = 4e-3
    adam_lr: float = 2e-3
    # From this share of the run on, this share of the steps sees the model's own past.
    resample_from: float = 0.6
    resample_share: float = 0.5
    # The shape covers a tenth of the picture and is most of what a viewer looks at. Without the
    # weight, also when it only fades towards the end of a run, shapes get lost.
    shape_weight: float = 4.0
    # From this share on, the target itself is guided: it points away from what the model says
    # without a prompt. At the fixed point a plain run equals guidance 1 / (1 - w).
    guide_from: float = 0.5
    guide_weight: float = 0.5
    seed: int = 7


def is_hidden(name: str, value: Tensor) -> bool:
    """Matrices inside the networks; embeddings, ends and vectors go to AdamW."""
    outside = ("shared.weight", "relative_attention_bias", "head.head", "patch_embedding")
    return value.ndim == 2 and not any(part in name for part in outside)


def fresh_params(run: DitRun, vocabulary: int) -> Params:
    generator = torch.Generator().manual_seed(run.seed)
    params = {f"dit.{n}": v for n, v in dit.init_params(CONFIG, generator).items()}
    params |= {f"text.{n}": v for n, v in text.init_params(vocabulary, generator).items()}
    return {name: value.requires_grad_() for name, value in params.items()}


def part(params: Params, prefix: str, dtype: torch.dtype) -> Params:
    return {n.removeprefix(prefix): v.to(dtype) for n, v in params.items() if n.startswith(prefix)}


def arrange(run: DitRun) -> Groups:
    """Who sees whom. Order: clean first chunks, noisy first chunks (long, short), then the rest."""
    b, n, r, e = run.long_clips, LONG_CHUNKS, run.copies, run.short_clips
    free = b + b + e
    later_clean = [
        c if k == 1 else free + c * (n - 2) + k - 2 for c in range(b) for k in range(1, n - 1)
    ]
    later_noisy = [
        c if k == 1 else free + c * (n - 2) + k - 2
        for _ in range(r)
        for c in range(b)
        for k in range(1, n)
    ]
    long = list(range(b))
    clip = long + long + [b + i for i in range(e)]
    clip += [c for c in long for _ in range(1, n - 1)]
    clip += [c for _ in range(r) for c in long for _ in range(1, n)]
    return Groups(free, torch.tensor(later_clean + later_noisy), torch.tensor(clip))


class Batches:
    """Draws clips and noise; everything random comes from one generator."""

    def __init__(self, run: DitRun, folder: Path, seed: int) -> None:
        self.run, self.folder = run, folder
        self.generator = torch.Generator().manual_seed(seed)
        self.tokenizer = text.Tokenizer(text.vocabulary())
        self.prompts = split(unseen=False)
        self.reload()

    def reload(self) -> None:
        self.long = LatentSet.load(self.folder, "long")
        self.short = LatentSet.load(self.folder, "short")

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator).to(like.dtype)

    def clips(self) -> tuple[Tensor, Tensor, list[str], list[Tensor]]:
        """Blocks ``(B, n, 16, 4, h, w)`` of long clips, ``(E, 16, 4, h, w)`` of short ones.

        Then their prompts and their masks ``(B, n, 4, h, w)`` and ``(E, 1, 4, h, w)``.
        """
        picks = [
            (data, torch.randint(len(data), (count,), generator=self.generator))
            for data, count in (
                (self.long, self.run.long_clips),
                (self.short, self.run.short_clips),
            )
        ]
        blocks, words, masks = [], [], []
        for data, rows in picks:
            content = data.content[rows].unflatten(2, (-1, 3)).transpose(1, 2)
            state = data.state[rows].transpose(1, 2).unsqueeze(3)
            blocks.append(torch.cat([state, content], dim=3))
            masks.append(data.mask[rows])
            words += [self.prompts[int(i)].text for i in data.prompt[rows]]
        dropped = self.uniform(len(words)) < self.run.text_dropout
        words = ["" if drop else word for word, drop in zip(words, dropped, strict=True)]
        return blocks[0], blocks[1][:, 0], words, masks

    def tokens(self, words: list[str]) -> tuple[Tensor, Tensor]:
        ids, lengths = self.tokenizer(words)
        # One fixed width keeps the compiled graph unique.
        return torch.nn.functional.pad(ids, (0, 14 - ids.shape[1])), lengths


def sigma_levels(batches: Batches, count: int) -> Tensor:
    """Stratified noise levels, shifted towards high noise."""
    order = torch.randperm(count, generator=batches.generator)
    u = (order + batches.uniform(count)) / count
    return batches.run.shift * u / (1.0 + (batches.run.shift - 1.0) * u)


def mix_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    sigma = sigma.view(-1, *[1] * (clean.ndim - 1))
    return (clean.float() * (1.0 - sigma) + noise.float() * sigma).to(clean.dtype)


def flow_loss(
    params: Params,
    batches: Batches,
    groups: Groups,
    share: float,
    run_block: Callable[..., Tensor],
) -> Tensor:
    """Mean squared velocity error of every noisy block ``(G,)`` at a share of the run.

    Guided targets follow Tang et al. 2025, "Diffusion Models without Classifier-free Guidance".
    """
    run = batches.run
    resample = share > run.resample_from and float(batches.uniform(1)) < run.resample_share
    long, short, words, masks = batches.clips()
    ids, lengths = batches.tokens(words)
    encoded = text.encode(part(params, "text.", torch.float32), ids, lengths).to(torch.bfloat16)
    weights = part(params, "dit.", torch.bfloat16)
    b = run.long_clips
    context = long[:, : LONG_CHUNKS - 1]
    if resample:
        detached = {name: value.detach() for name, value in weights.items()}
        context = own_past(detached, batches, context, encoded[:b].detach(), lengths[:b])
    amount = (run.context_noise * (batches.uniform(b) * 1.4 - 0.4)).clamp(min=0.0)
    amount = amount.repeat_interleave(LONG_CHUNKS - 1)
    flat = context.flatten(0, 1)
    context = mix_noise(flat, batches.noise(flat), amount).view(context.shape)
    first = torch.cat([long[:, 0], short])
    later = long[:, 1:].flatten(0, 1).repeat(run.copies, 1, 1, 1, 1)
    targets = torch.cat([first, later])
    noise, sigma = batches.noise(targets), sigma_levels(batches, len(targets))
    noisy = mix_noise(targets, noise, sigma)
    clean_later = context[:, 1:].flatten(0, 1)
    x = torch.cat([context[:, 0], noisy[: len(first)], clean_later, noisy[len(first) :]])
    zeros = torch.zeros(b), torch.zeros(len(clean_later))
    t = 1000.0 * torch.cat([zeros[0], sigma[: len(first)], zeros[1], sigma[len(first) :]])

    def velocity(p: Params, prompts: Tensor, sizes: Tensor) -> Tensor:
        out = dit.grouped_forward(p, CONFIG, x, t, prompts, sizes, groups, run_block)
        seen = torch.cat([out[b : b + len(first)], out[b + len(first) + len(clean_later) :]])
        return seen.float()

    seen, wanted = velocity(weights, encoded, lengths), noise.float() - targets.float()
    if share > run.guide_from:
        with torch.no_grad():
            ids, ends = batches.tokens([""] * len(words))
            silent = text.encode(part(params, "text.", torch.float32), ids, ends)
            plain = velocity(weights, silent.to(torch.bfloat16), ends)
        wanted = wanted + run.guide_weight * (seen.detach() - plain)
    error = seen - wanted
    later_mask = masks[0][:, 1:].flatten(0, 1).repeat(run.copies, 1, 1, 1)
    mask = torch.cat([masks[0][:, 0], masks[1][:, 0], later_mask])
    factor = 1.0 + (run.shape_weight - 1.0) * mask.float()
    factor = factor / factor.mean((1, 2, 3), keepdim=True)
    return (error.square().mean(1) * factor).flatten(1).mean(1)


def own_past(
    weights: Params, batches: Batches, truth: Tensor, encoded: Tensor, lengths: Tensor
) -> Tensor:
    """What the model itself makes of a noised past ``(B, n, 16, 4, h, w)``, chunk after chunk."""
    stream = Stream(weights, CONFIG, encoded, lengths)
    made = []
    with torch.no_grad():
        for k in range(truth.shape[1]):
            sigma = float(0.25 + 0.7 * batches.uniform(1))
            steps = 1 + int(batches.uniform(1) * 3)
            levels = [sigma * (1.0 - i / steps) for i in range(steps + 1)]
            start = mix_noise(
                truth[:, k], batches.noise(truth[:, k]), torch.full((len(truth),), sigma)
            )
            made.append(stream.denoise(start, levels).to(truth.dtype))
            stream.commit(made[-1])
    return torch.stack(made, dim=1)


def save_run(
    folder: Path, params: Params, average: Average, optimizer: TwoOptimizers, progress: Progress
) -> None:
    meta = {"step": str(int(progress[0])), "spent": f"{float(progress[1]):.1f}"}
    # Written aside and renamed: an export may read, and a stop may come, at any moment.
    files: dict[str, Callable[[Path], None]] = {
        AVERAGE: lambda path: save_file(average.values, path, meta),
        "dit_resume.pt": lambda path: torch.save(optimizer.state_dict(), path),
        RESUME: lambda path: save_file({n: v.detach() for n, v in params.items()}, path, meta),
    }
    for name, write in files.items():
        write(folder / f"{name}.part")
        (folder / f"{name}.part").rename(folder / name)


def train_dit(run: DitRun | None = None, workers: int = 2) -> Path:
    """Train until the run's minutes are used up; continues a stopped run."""
    run, folder = run or DitRun(), work_dir()
    tokenizer = text.Tokenizer(text.vocabulary())
    params, progress = fresh_params(run, tokenizer.size), new_progress(0, 0.0)
    if (folder / RESUME).exists():
        saved = load_file(folder / RESUME)
        for name, value in params.items():
            value.data.copy_(saved[name])
        with safe_open(folder / RESUME, "pt") as file:
            meta = file.metadata()
        progress = new_progress(int(meta["step"]), float(meta["spent"]))
    for value in params.values():
        value.share_memory_()
    run_workers(workers, dit_worker, params, progress, run)
    return folder / AVERAGE


def dit_worker(rank: int, params: Params, progress: Progress, run: DitRun) -> None:
    """Update the shared parameters; the first worker also keeps time, averages and checkpoints."""
    log, folder, limit = stage_logger("dit"), work_dir(), 60.0 * run.minutes
    batches = Batches(run, folder / "latents", 1000 * run.seed + 10 * int(progress[0]) + rank)
    optimizer = TwoOptimizers(params.items(), is_hidden, run.muon_lr, run.adam_lr)
    average, local = Average(0.995), 0
    if progress[0] > 0:
        if (folder / "dit_resume.pt").exists():  # not after `unpack`
            optimizer.load_state_dict(torch.load(folder / "dit_resume.pt", weights_only=True))
        values = load_file(folder / AVERAGE)
        average = Average(0.995, values, int(progress[0]))
    groups = arrange(run)
    run_block = torch.compile(dit.grouped_block, dynamic=False)
    if not rank:
        count = sum(value.numel() for value in params.values())
        log.info("%s, %d parameters, %s", CONFIG, count, run)
        log.info("%d long and %d short clips", len(batches.long), len(batches.short))
    # The first pass compiles; counting it would shorten the run by minutes.
    flow_loss(params, batches, groups, 1.0, run_block).mean().backward()
    optimizer.zero_grad()
    sums, first_count, begin = torch.zeros(3), run.long_clips + run.short_clips, time.monotonic()
    while (spent := float(progress[1])) < limit:
        share = spent / limit
        errors = flow_loss(params, batches, groups, share, run_block)
        errors.mean().backward()
        norm = optimizer.step(warmup_stable_decay(share, max(local, 1)))
        if not math.isfinite(norm):
            raise RuntimeError(f"gradient norm is {norm} at step {local}, expected a finite number")
        progress[0] += 1
        local += 1
        if local % 200 == 0:
            batches.reload()
        if rank:
            continue
        average.update(params.items())
        begin, last = time.monotonic(), begin
        progress[1] += begin - last
        errors = errors.detach()
        sums += torch.tensor([errors[:first_count].mean(), errors[first_count:].mean(), norm])
        if local % 25 == 0:
            first, later, mean_norm = (sums / 25).tolist()
            log.info(
                "step %d, %.0f s, first %.4f, later %.4f, gradient %.2f",
                int(progress[0]),
                spent,
                first,
                later,
                mean_norm,
            )
            sums.zero_()
        if local % 100 == 0 or float(progress[1]) >= limit:
            save_run(folder, params, average, optimizer, progress)
