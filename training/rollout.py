"""Streams latents from the demo DiT with a key/value cache: training's own monitor and resampler.

The shipped pack has its own engine; this one stays small, batched and free of ComfyUI.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from training import dit
from training.dit import DitConfig, Params
from training.world import HEIGHT, WIDTH

Row = Literal["adaptive", "held", "frozen", "none"]
ROWS: tuple[Row, ...] = ("adaptive", "held", "frozen", "none")
# Unrotated keys and values of whole frames, one pair a layer.
Cache = list[tuple[Tensor, Tensor]]
Grid = tuple[int, int]
GRID: Grid = (HEIGHT // 8, WIDTH // 8)


def shifted_sigmas(steps: int, shift: float) -> list[float]:
    """Noise levels from 1 to 0, evenly spaced before the shift that favours high noise."""
    levels = [1.0 - i / steps for i in range(steps + 1)]
    return [shift * s / (1.0 + (shift - 1.0) * s) for s in levels]


def draw_noise(seeds: list[int], purpose: int, chunk: int, frames: int, grid: Grid) -> Tensor:
    """Noise that depends on (seed, purpose, chunk) alone: ``(B, 16, frames, *grid)``."""
    shape = (dit.LATENT_CHANNELS, frames, *grid)
    draws = []
    for seed in seeds:
        key = (seed * 1_000_003 + chunk) * 16 + purpose
        draws.append(torch.randn(shape, generator=torch.Generator().manual_seed(key % 2**63)))
    return torch.stack(draws)


def cached_forward(
    p: Params,
    config: DitConfig,
    x: Tensor,
    t: float,
    text: tuple[Tensor, Tensor],
    own: list[int],
    past: Cache | None,
    past_frames: list[int],
) -> tuple[Tensor, Cache]:
    """Velocity of one block a stream, and the block's own unrotated keys and values."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2

    def table(frames: list[int]) -> tuple[Tensor, Tensor]:
        cos, sin = dit.rope_table(torch.tensor(frames), height, width)
        return cos.to(x.dtype), sin.to(x.dtype)

    own_table = table(own)
    past_table = table(past_frames) if past_frames else None
    e, e_blocks = dit.embed_time(p, torch.full((x.shape[0],), t), x.dtype)
    tokens = dit.embed_patches(p, x)
    written: Cache = []

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        layer = len(written)
        written.append((k, v))
        q, k = dit.rotate(q, own_table), dit.rotate(k, own_table)
        if past is not None and past_table is not None:
            k = torch.cat([dit.rotate(past[layer][0], past_table), k], dim=1)
            v = torch.cat([past[layer][1], v], dim=1)
        return dit.attend(q, k, v)

    for i in range(config.layers):
        tokens = dit.block(dit.block_params(p, i), tokens, e_blocks, *text, mix)
    return dit.unpatchify(dit.head(p, tokens, e), height, width), written


def tokens_of_cache(cache: Cache, first: int, last: int) -> Cache:
    part = slice(first, last)
    return [(k[:, part], v[:, part]) for k, v in cache]


def join(a: Cache | None, b: Cache | None) -> Cache | None:
    if a is None or b is None:
        return a if b is None else b
    return [
        (torch.cat([ka, kb], 1), torch.cat([va, vb], 1))
        for (ka, va), (kb, vb) in zip(a, b, strict=True)
    ]


@dataclass(slots=True)
class Stream:
    """A batch of streams under one row (anchor policy); every stream has its own prompt."""

    params: Params
    config: DitConfig
    text: Tensor
    lengths: Tensor
    row: Row = "adaptive"
    anchor: Cache | None = None
    window: Cache | None = None
    chunk: int = 0
    embedded: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.embedded = dit.embed_text(self.params, self.text, self.lengths)

    @property
    def has_state(self) -> bool:
        return self.row in ("adaptive", "held")

    def layout(self) -> tuple[list[int], list[int]]:
        """Temporal indices of the block and of what is cached."""
        anchors = 3 if self.row == "frozen" else 1
        own = [anchors + 3 + i for i in range(3)]
        past = [] if self.anchor is None else list(range(anchors))
        if self.window is not None:
            past += [anchors + i for i in range(3)]
        return ([0, *own] if self.has_state else own), past

    def predict(self, x: Tensor, sigma: float) -> tuple[Tensor, Cache]:
        own, past_frames = self.layout()
        past = join(self.anchor, self.window)
        return cached_forward(
            self.params, self.config, x, 1000.0 * sigma, self.embedded, own, past, past_frames
        )

    def denoise(self, x: Tensor, sigmas: list[float]) -> Tensor:
        """Euler steps down the given noise levels."""
        x = x.float()
        for here, there in pairwise(sigmas):
            velocity, _ = self.predict(x.to(torch.bfloat16), here)
            x = x + (there - here) * velocity.float()
        return x

    def commit(self, clean: Tensor) -> None:
        """Write a clean block ``(B, 16, [1 +] 3, h, w)`` into anchor and window."""
        _, written = self.predict(clean.to(torch.bfloat16), 0.0)
        frame = clean.shape[-2] * clean.shape[-1] // 4
        state = frame * int(self.has_state)
        content = tokens_of_cache(written, state, state + 3 * frame)
        if self.row == "adaptive" or (self.row == "held" and self.chunk == 0):
            self.anchor = tokens_of_cache(written, 0, frame)
        if self.row == "frozen" and self.chunk == 0:
            self.anchor = content
        self.window = content
        self.chunk += 1


def generate_latents(
    stream: Stream, seeds: list[int], chunks: int, sigmas: list[float], grid: Grid = GRID
) -> tuple[Tensor, Tensor | None]:
    """Stream ``chunks`` chunks: content ``(B, 16, 3 * chunks, h, w)`` and states, if any."""
    content, states = [], []
    with torch.no_grad():
        for chunk in range(chunks):
            x = draw_noise(seeds, 0, chunk, 3, grid)
            if stream.has_state:
                x = torch.cat([draw_noise(seeds, 1, chunk, 1, grid), x], dim=2)
            x = stream.denoise(x, sigmas)
            stream.commit(x)
            content.append(x[:, :, -3:])
            states.append(x[:, :, :1])
    return torch.cat(content, 2), torch.cat(states, 2) if stream.has_state else None
