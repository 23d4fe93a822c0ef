"""Blocks, caches and attention calls to try the attention of a chunk with, and by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adastate_core.anchors import policy_for
from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.commit_attention import CommitAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCache, KVEntry
from adastate_core.attention.kv_format import PLAIN, KVFormat
from adastate_core.attention.layers import SELF, AttentionCalls, LayerCall, joint
from adastate_core.attention.rope import TemporalRope
from adastate_core.config import StreamConfig
from adastate_core.layout import CachedFrames
from tests.support.reference_dit import plain_attention

TOKENS, HEADS, CHANNELS, LAYERS, TEXT = 2, 2, 8, 2, 3
SPEEDS = (0.9, 0.13)
"""Radians per frame of the first two pairs of a head; the other two pairs are at rest."""

FROZEN = StreamConfig(anchor="frozen", chunk_frames=2, window_frames=2, anchor_frames=1)
ADAPTIVE = StreamConfig(chunk_frames=2, window_frames=2)


JOINT = {"prefix": joint("text", "video"), "suffix": joint("video", "text")}
"""The attention of a video and of a text before or behind it."""


def geometry(how: LayerCall = SELF, **options: object) -> AttentionGeometry:
    calls = AttentionCalls(of_block=(how,))
    return AttentionGeometry(LAYERS, TOKENS, 1, TemporalRope((SPEEDS,)), calls, **options)


def random(frames: int, seed: int, batch: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn((batch, frames * TOKENS, HEADS, CHANNELS), generator=source)


def rotated(x: Tensor, frames: float) -> Tensor:
    """Rotate (B, S, H, D) by a number of frames, with complex numbers."""
    angles = torch.tensor([*SPEEDS, 0.0, 0.0], dtype=torch.float64) * frames
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    spin = torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(pairs * spin).flatten(-2).float()


def placed(x: Tensor, native: tuple[float, ...], target: tuple[float, ...]) -> Tensor:
    """Rotate every frame of `x` from one index to another."""
    parts = x.split(TOKENS, dim=1)
    moves = [there - here for here, there in zip(native, target, strict=True)]
    return torch.cat([rotated(p, m) for p, m in zip(parts, moves, strict=True)], dim=1)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, weight: Tensor | None = None) -> Tensor:
    """Attend over (B, S, H, D); `weight` multiplies the share of each key before the norm."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) / math.sqrt(CHANNELS)
    shares = scores.exp() * (1.0 if weight is None else weight.double())
    shares = shares / shares.sum(-1, keepdim=True)
    return torch.einsum("bhqk,bkhd->bqhd", shares, v.double()).float()


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def cache_of(cached: CachedFrames, seed: int, form: KVFormat = PLAIN) -> KVCache:
    cache = KVCache(cached, form)
    for layer in range(LAYERS):
        held = (random(cached.frames, seed + 10 * layer + i) for i in range(2))
        cache.put(KVEntry(layer), *held, TOKENS)
    return cache


def chunk(
    config: StreamConfig, past: dict[int, KVCache], how: AttentionGeometry | None = None
) -> ChunkAttention:
    return ChunkAttention(config, policy_for(config), past, how or geometry())


def commit(
    config: StreamConfig,
    past: dict[int, KVCache],
    how: AttentionGeometry | None = None,
    *,
    hold: bool = False,
) -> CommitAttention:
    return CommitAttention(config, policy_for(config), past, how or geometry(), hold=hold)


def call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layer: int = 0,
    at: tuple[int, ...] = (0,),
    how: LayerCall = SELF,
) -> SelfAttention:
    return SelfAttention(layer, at, q, k, v, plain_attention, how)


def block(frames: int, text: int = 0, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of a block, with text tokens behind those of the video."""
    q, k, v = (random(frames + 2, seed, batch)[:, : frames * TOKENS + text] for seed in (1, 2, 3))
    return q, k, v


# A stream of two content frames a chunk, after its second chunk: frame 0 is the anchor.
FULL = CachedFrames(anchor=(0,), window=(4, 5), committed=4)


def committed(view: CommitAttention, *tensors: Tensor, how: LayerCall = SELF) -> KVCache:
    for layer in range(LAYERS):
        view.attend(call(*(x + layer for x in tensors), layer, how=how))
    return view.committed()[0]
