"""The attention of one chunk, against a softmax written out over keys rotated one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adastate_core.anchors import policy_for
from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention, CommitAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCache, KVEntry
from adastate_core.attention.kv_format import PLAIN, KVFormat
from adastate_core.attention.layers import SELF, AttentionCalls, LayerCall, joint
from adastate_core.attention.rope import SpatialRope, TemporalRope
from adastate_core.config import StreamConfig
from adastate_core.errors import ConfigError, LayoutError
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


def test_a_first_chunk_attends_to_itself() -> None:
    view = chunk(FROZEN, {0: KVCache.empty()})
    assert (view.layout.context, view.layout.block) == ((), (3, 4))
    q, k, v = block(2)
    at = (0, 1), (3, 4)
    near(view.attend(call(q, k, v)), softmax_attention(placed(q, *at), placed(k, *at), v))


@pytest.mark.parametrize("form", [PLAIN, KVFormat(device=torch.device("cpu"))])
def test_cached_keys_are_rotated_to_their_places_before_the_block(form: KVFormat) -> None:
    cache = cache_of(FULL, 7, form)
    view = chunk(FROZEN, {0: cache})
    assert (view.layout.anchor, view.layout.window, view.layout.content) == ((0,), (1, 2), (3, 4))
    q, k, v = block(2)
    for layer in (0, 1, 0):  # a layer of the next step is read again
        keys, values = cache.get(KVEntry(layer))
        keys = torch.cat((placed(keys, (0, 4, 5), (0, 1, 2)), placed(k, (0, 1), (3, 4))), dim=1)
        values = torch.cat((values, v), dim=1)
        expected = softmax_attention(placed(q, (0, 1), (3, 4)), keys, values)
        near(view.attend(call(q, k, v, layer)), expected)


def test_a_model_that_can_be_shifted_numbers_the_block_itself() -> None:
    cache = cache_of(FULL, 7)
    view = chunk(FROZEN, {0: cache}, geometry(can_shift=True))
    assert view.origin == 3
    q, k, v = block(2)
    keys, values = cache.get(KVEntry(0))
    keys = torch.cat((placed(keys, (0, 4, 5), (0, 1, 2)), k), dim=1)
    near(view.attend(call(q, k, v)), softmax_attention(q, keys, torch.cat((values, v), dim=1)))


def test_a_smaller_window_reads_the_newest_frames() -> None:
    config = replace(FROZEN, window_frames=1)
    cache = cache_of(FULL, 7)
    q, k, v = block(2)
    keys, values = (x.split(TOKENS, dim=1) for x in cache.get(KVEntry(0)))
    keys = torch.cat((keys[0], rotated(keys[2], 1 - 5), placed(k, (0, 1), (2, 3))), dim=1)
    values = torch.cat((values[0], values[2], v), dim=1)
    expected = softmax_attention(placed(q, (0, 1), (2, 3)), keys, values)
    near(chunk(config, {0: cache}).attend(call(q, k, v)), expected)


@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
def test_the_anchor_is_weakened_and_strengthened(strength: float) -> None:
    config = replace(FROZEN, anchor_strength=strength)
    cache = cache_of(FULL, 7)
    q, k, v = block(2)
    keys, values = cache.get(KVEntry(0))
    keys = torch.cat((placed(keys, (0, 4, 5), (0, 1, 2)), placed(k, (0, 1), (3, 4))), dim=1)
    weight = torch.ones(keys.shape[1])
    weight[:TOKENS] = strength
    values = torch.cat((values, v), dim=1)
    expected = softmax_attention(placed(q, (0, 1), (3, 4)), keys, values, weight)
    near(chunk(config, {0: cache}).attend(call(q, k, v)), expected)


def test_without_an_anchor_its_strength_is_nothing() -> None:
    config = replace(FROZEN, anchor_strength=0.0)
    biases: list[Tensor | None] = []

    def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        biases.append(bias)
        return plain_attention(q, k, v, bias)

    chunk(config, {0: KVCache.empty()}).attend(SelfAttention(0, (0,), *block(2), attention))
    chunk(FROZEN, {0: cache_of(FULL, 7)}).attend(SelfAttention(0, (0,), *block(2), attention))
    assert biases == [None, None]  # of strength 1 no mask is needed


@pytest.mark.parametrize("place", JOINT)
def test_text_attends_to_the_past_and_is_not_rotated(place: str) -> None:
    cache = cache_of(FULL, 7)
    q, k, v = block(2, TEXT)
    video, text = slice(0, 2 * TOKENS), slice(2 * TOKENS, None)
    if place == "prefix":
        video, text = slice(TEXT, None), slice(0, TEXT)

    def moved(x: Tensor) -> Tensor:
        out = x.clone()
        out[:, video] = placed(x[:, video], (0, 1), (3, 4))
        assert torch.equal(out[:, text], x[:, text])
        return out

    keys, values = cache.get(KVEntry(0))
    keys = torch.cat((placed(keys, (0, 4, 5), (0, 1, 2)), moved(k)), dim=1)
    expected = softmax_attention(moved(q), keys, torch.cat((values, v), dim=1))
    how = JOINT[place]
    found = chunk(FROZEN, {0: cache}, geometry(how)).attend(call(q, k, v, how=how))
    near(found, expected)


def test_a_batch_of_two_conditionings_reads_a_cache_each() -> None:
    past = {0: cache_of(FULL, 7), 1: cache_of(FULL, 70)}
    view = chunk(FROZEN, past)
    assert view.conditionings == (0, 1)
    q, k, v = block(2, batch=2)
    found = view.attend(call(q, k, v, at=(1, 0)))
    for row, conditioning in enumerate((1, 0)):
        alone = chunk(FROZEN, {conditioning: past[conditioning]})
        each = (x[row : row + 1] for x in (q, k, v))
        near(found[row : row + 1], alone.attend(call(*each, at=(conditioning,))))


@pytest.mark.parametrize("strength", [1.0, 0.25])
@pytest.mark.parametrize("sees", [True, False])
def test_content_sees_the_current_state_or_not(sees: bool, strength: float) -> None:
    config = replace(ADAPTIVE, content_sees_current_state=sees, anchor_strength=strength)
    cached = CachedFrames(anchor=(0,), window=(3, 4), committed=4)
    cache = cache_of(cached, 7)
    view = chunk(config, {0: cache})
    assert (view.layout.anchor, view.layout.window) == ((0,), (1, 2))
    assert (view.layout.state, view.layout.content, view.state_frames) == ((0,), (3, 4), 1)
    q, k, v = block(3)
    at = (0, 1, 2), (0, 3, 4)
    q_at, k_at = placed(q, *at), placed(k, *at)
    keys, values = cache.get(KVEntry(0))
    keys = torch.cat((placed(keys, (0, 3, 4), (0, 1, 2)), k_at), dim=1)
    values = torch.cat((values, v), dim=1)
    anchored = torch.ones(keys.shape[1])
    anchored[:TOKENS] = strength
    whole = softmax_attention(q_at, keys, values, anchored)
    hidden = anchored.clone()
    hidden[3 * TOKENS : 4 * TOKENS] = 0.0
    blind = softmax_attention(q_at, keys, values, hidden)
    found = view.attend(call(q, k, v))
    near(found[:, :TOKENS], whole[:, :TOKENS])
    near(found[:, TOKENS:], (whole if sees else blind)[:, TOKENS:])
    assert (whole - blind)[:, TOKENS:].abs().max() > 1e-2


def test_content_cannot_be_kept_from_the_state_where_text_is_mixed_in() -> None:
    config = replace(ADAPTIVE, content_sees_current_state=False)
    with pytest.raises(
        ConfigError, match=r"^content_sees_current_state cannot be off for this model"
    ):
        chunk(config, {0: KVCache.empty()}, geometry(JOINT["suffix"]))


def test_another_number_of_heads_is_refused() -> None:
    q, k, v = (x[:, :, :1] for x in block(2))
    with pytest.raises(LayoutError, match="memory of this stream belongs to another model"):
        chunk(FROZEN, {0: cache_of(FULL, 7)}).attend(call(q, k, v))


def test_a_conditioning_without_a_cache_is_refused() -> None:
    with pytest.raises(LayoutError, match="asks for a prompt that this stream does not have"):
        chunk(FROZEN, {0: cache_of(FULL, 7)}).attend(call(*block(2), at=(1,)))


def test_reading_changes_no_cache() -> None:
    cache = cache_of(FULL, 7)
    before = {name: value.clone() for name, value in cache.state_dict().items()}
    view = chunk(FROZEN, {0: cache})
    for layer in range(LAYERS):
        view.attend(call(*block(2), layer))
    assert all(torch.equal(value, before[n]) for n, value in cache.state_dict().items())


def committed(view: CommitAttention, *tensors: Tensor, how: LayerCall = SELF) -> KVCache:
    for layer in range(LAYERS):
        view.attend(call(*(x + layer for x in tensors), layer, how=how))
    return view.committed()[0]


def test_a_commit_keeps_keys_as_the_model_made_them() -> None:
    q, k, v = block(2)
    made = committed(commit(FROZEN, {0: KVCache.empty()}), q, k, v)
    assert made.cached == CachedFrames(anchor=(0,), window=(1,), committed=2)
    for layer in range(LAYERS):
        keys, values = made.get(KVEntry(layer))
        assert torch.equal(keys, k + layer)
        assert torch.equal(values, v + layer)


def test_a_commit_moves_the_window_on_and_leaves_the_old_cache() -> None:
    cache = cache_of(FULL, 7)
    before = {name: value.clone() for name, value in cache.state_dict().items()}
    q, k, v = block(2)
    made = committed(commit(FROZEN, {0: cache}, geometry(can_shift=True)), q, k, v)
    # The block was numbered from 3, behind the anchor and the window.
    assert made.cached == CachedFrames(anchor=(0,), window=(3, 4), committed=6)
    assert torch.equal(
        made.get(KVEntry(0))[0], torch.cat((cache.get(KVEntry(0))[0][:, :TOKENS], k), dim=1)
    )
    assert torch.equal(
        made.get(KVEntry(0))[1], torch.cat((cache.get(KVEntry(0))[1][:, :TOKENS], v), dim=1)
    )
    assert all(torch.equal(value, before[n]) for n, value in cache.state_dict().items())


def test_what_a_commit_made_reads_as_the_keys_at_their_new_places() -> None:
    """Two chunks by hand: what the second one sees of the first does not depend on numbering."""
    q, k, v = block(2)
    outputs = []
    for can_shift in (False, True):
        how = geometry(can_shift=can_shift)
        view = commit(FROZEN, {0: KVCache.empty()}, how)
        native = how.native(view.origin, 2)
        written = placed(k, (0, 0), native), v  # projected at the indices of the model
        made = committed(view, q, *written)
        following = chunk(FROZEN, {0: made}, how)
        own = how.native(following.origin, 2)
        outputs.append(following.attend(call(*(placed(x, (0, 0), own) for x in (q, k)), v)))
    near(*outputs)


def test_an_adaptive_commit_keeps_the_state_of_the_block() -> None:
    cache = cache_of(CachedFrames(anchor=(0,), window=(3, 4), committed=4), 7)
    q, k, v = block(3)
    made = committed(commit(ADAPTIVE, {0: cache}), q, k, v)
    assert made.cached == CachedFrames(anchor=(0,), window=(1, 2), committed=6)
    assert torch.equal(made.get(KVEntry(0))[0], k)
    held = committed(commit(ADAPTIVE, {0: cache}, hold=True), q, k, v)
    assert torch.equal(held.get(KVEntry(0))[0][:, :TOKENS], cache.get(KVEntry(0))[0][:, :TOKENS])
    assert torch.equal(held.get(KVEntry(0))[0][:, TOKENS:], k[:, TOKENS:])


@pytest.mark.parametrize("sees", [True, False])
def test_a_commit_sees_the_previous_state_or_not(sees: bool) -> None:
    config = replace(ADAPTIVE, reencode_sees_prev_state=sees)
    cache = cache_of(CachedFrames(anchor=(0,), window=(3, 4), committed=4), 7)
    q, k, v = block(3)
    view = commit(config, {0: cache})
    assert view.layout.context == ((0, 1, 2) if sees else (1, 2))
    at = (0, 1, 2), (0, 3, 4)
    keys, values = cache.get(KVEntry(0))
    keys = torch.cat((placed(keys, (0, 3, 4), (0, 1, 2)), placed(k, *at)), dim=1)
    weight = torch.ones(keys.shape[1])
    weight[:TOKENS] = float(sees)
    expected = softmax_attention(placed(q, *at), keys, torch.cat((values, v), dim=1), weight)
    near(view.attend(call(q, k, v)), expected)


def test_text_is_not_committed() -> None:
    q, k, v = block(2, TEXT)
    how = JOINT["prefix"]
    made = committed(commit(FROZEN, {0: KVCache.empty()}, geometry(how)), q, k, v, how=how)
    assert torch.equal(made.get(KVEntry(0))[0], k[:, TEXT:])
    assert torch.equal(made.get(KVEntry(1))[1], v[:, TEXT:] + 1)


def test_an_averaged_anchor_blends_at_one_place_in_time() -> None:
    config = replace(FROZEN, anchor="ema", ema_rate=0.75)
    cache = cache_of(FULL, 7)
    q, k, v = block(2)
    made = committed(commit(config, {0: cache}), q, k, v)
    keys, values = (x.split(TOKENS, dim=1) for x in cache.get(KVEntry(0)))
    # Two frames leave, the older one first: 0.75^2, 0.25 x 0.75 and 0.25.
    shares = (0.5625, 0.1875, 0.25)
    moved = (keys[0], rotated(keys[1], -4), rotated(keys[2], -5))
    near(
        made.get(KVEntry(0))[0][:, :TOKENS], sum(s * x for s, x in zip(shares, moved, strict=True))
    )
    near(
        made.get(KVEntry(0))[1][:, :TOKENS], sum(s * x for s, x in zip(shares, values, strict=True))
    )


def test_an_average_over_the_image_needs_to_know_its_places() -> None:
    config = replace(FROZEN, anchor="dual_ema")
    cached = CachedFrames(anchor=(0,), window=(4, 5, 6, 7), committed=5)
    q, k, v = block(2)
    with pytest.raises(LayoutError, match=r"^The anchor .* does not work with this model"):
        committed(commit(config, {0: cache_of(cached, 7)}), q, k, v)
    space = SpatialRope(((0.0, 0.0, 0.3, 0.0),), ((0.0, 0.0, 0.0, 0.4),))
    how = geometry(spatial_rope=space)
    made = committed(commit(config, {0: cache_of(cached, 7)}, how), q, k, v)
    keys = made.get(KVEntry(0))[0][:, TOKENS : 2 * TOKENS]  # one row of tokens a frame, columns = 1
    first, second = keys[:, 0], keys[:, 1]
    turned = torch.view_as_complex(first[..., 4:6].contiguous()) * torch.polar(
        torch.tensor(1.0), torch.tensor(0.3)
    )
    near(second[..., 4:6], torch.view_as_real(turned))
    near(second[..., :4], first[..., :4])


def test_a_layer_computed_twice_is_refused() -> None:
    view = commit(FROZEN, {0: KVCache.empty()})
    view.attend(call(*block(2)))
    with pytest.raises(LayoutError, match=r"^Layer 0 of the model ran twice"):
        view.attend(call(*block(2)))


def test_a_commit_that_lacks_a_layer_is_refused() -> None:
    view = commit(FROZEN, {0: KVCache.empty()})
    view.attend(call(*block(2)))
    with pytest.raises(LayoutError, match=r"^Only 1 of 2 layers of the model ran"):
        view.committed()
