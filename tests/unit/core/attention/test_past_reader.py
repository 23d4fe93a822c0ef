"""Cached frames as attention takes them: picked, rotated, in every form, and in training too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCache, KVEntry
from adastate_core.attention.kv_format import PLAIN, KVFormat
from adastate_core.attention.past_reader import PastReader, PastReading
from adastate_core.attention.rope import TemporalRope
from adastate_core.errors import LayoutError
from adastate_core.layout import CachedFrames

TOKENS, HEADS, CHANNELS = 2, 3, 8
ROPE = TemporalRope(((0.9, 0.13),))
GEOMETRY = AttentionGeometry(2, TOKENS, 1, ROPE)
CACHED = CachedFrames(anchor=(0.0,), window=(4.0, 5.0, 6.0), committed=7)
READING = PastReading(picked=(2, 0, 3), offsets=(0.0, -2.0, 1.5))
READINGS = {"video": READING}
FORMS = [PLAIN, KVFormat("fp8"), KVFormat(device=torch.device("cpu"))]


def random(frames: int, seed: int, batch: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn((batch, frames * TOKENS, HEADS, CHANNELS), generator=source)


def past_of(form: KVFormat = PLAIN, batch: int = 1) -> dict[int, KVCache]:
    made = {}
    for conditioning in (0, 1):
        made[conditioning] = KVCache(CACHED, form)
        for layer in range(2):
            seed = 10 * conditioning + 4 * layer
            made[conditioning].put(
                KVEntry(layer), random(4, seed, batch), random(4, seed + 1, batch), TOKENS
            )
    return made


def call(layer: int, at: tuple[int, ...], batch: int = 1) -> SelfAttention:
    q = random(2, 99, batch * len(at))
    return SelfAttention(layer, at, q, q, q)


def written(reader: PastReader, layer: int, at: tuple[int, ...], batch: int = 1) -> Any:
    shape = (batch * len(at), len(READING.picked) * TOKENS, HEADS, CHANNELS)
    k, v = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    reader.write(call(layer, at, batch), "video", k, v)
    return k, v


def expected(cache: KVCache, layer: int) -> tuple[Tensor, Tensor]:
    """Pick and rotate frame by frame."""
    both = []
    for x, offsets in zip(cache.get(KVEntry(layer)), (READING.offsets, (0.0,) * 3), strict=True):
        frames = x.split(TOKENS, dim=1)
        moved = [ROPE.rotate(frames[i], (o,)) for i, o in zip(READING.picked, offsets, strict=True)]
        both.append(torch.cat(moved, dim=1))
    return both[0], both[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep_ready", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_frames_come_picked_and_rotated(form: KVFormat, keep_ready: bool, batch: int) -> None:
    past = past_of(form, batch)
    reader = PastReader(past, READINGS, GEOMETRY, keep_ready=keep_ready)
    for at in ((0,), (1, 0)):
        for layer in (0, 1, 0):  # more than one step
            found = written(reader, layer, at, batch)
            for which in (0, 1):
                wanted = torch.cat([expected(past[c], layer)[which] for c in at])
                assert torch.equal(found[which], wanted)


@pytest.mark.parametrize("form", FORMS)
def test_all_frames_of_a_commit_are_those_kept_and_serve_its_attention(form: KVFormat) -> None:
    past = past_of(form)
    reader = PastReader(past, READINGS, GEOMETRY, keep_ready=False)
    for layer in (0, 1):
        whole = reader.whole(1, KVEntry(layer), random(2, 99))
        for found, kept in zip(whole, past[1].get(KVEntry(layer)), strict=True):
            assert torch.equal(found, kept)
        for found, wanted in zip(
            written(reader, layer, (1,)), expected(past[1], layer), strict=True
        ):
            assert torch.equal(found, wanted)


def test_what_is_written_carries_gradients_to_the_block() -> None:
    """In training the block's own keys lie behind the past, and are learnt."""
    reader = PastReader(past_of(), READINGS, GEOMETRY, keep_ready=True)
    block = random(2, 5, batch=2).requires_grad_()
    room = len(READING.picked) * TOKENS
    k = block.new_empty((2, room + block.shape[1], HEADS, CHANNELS))
    k[:, room:] = block
    v = k.clone()
    reader.write(call(0, (0, 1)), "video", k[:, :room], v[:, :room])
    (k * torch.arange(k.shape[1])[:, None, None]).sum().backward()
    slope = torch.arange(room, k.shape[1], dtype=torch.float32)[:, None, None]
    assert torch.equal(block.grad, slope.expand_as(block))  # type: ignore[arg-type]


def test_a_cache_of_another_model_is_refused() -> None:
    reader = PastReader(past_of(), READINGS, GEOMETRY, keep_ready=False)
    k = torch.zeros(1, 6, HEADS + 1, CHANNELS)
    with pytest.raises(LayoutError, match="another model"):
        reader.write(call(0, (0,)), "video", k, k.clone())


def test_a_conditioning_without_a_past_is_refused() -> None:
    reader = PastReader({0: past_of()[0]}, READINGS, GEOMETRY, keep_ready=True)
    with pytest.raises(LayoutError, match="a prompt that this stream does not have"):
        written(reader, 0, (1,))
