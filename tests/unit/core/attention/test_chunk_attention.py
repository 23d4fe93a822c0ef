"""The attention of one chunk, against a softmax written out over keys rotated one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.kv_cache import KVCache, KVEntry
from adastate_core.attention.kv_format import PLAIN, KVFormat
from adastate_core.errors import ConfigError, LayoutError
from adastate_core.layout import CachedFrames
from tests.support.attention_blocks import (
    ADAPTIVE,
    FROZEN,
    FULL,
    JOINT,
    LAYERS,
    TEXT,
    TOKENS,
    block,
    cache_of,
    call,
    chunk,
    geometry,
    near,
    placed,
    rotated,
    softmax_attention,
)
from tests.support.reference_dit import plain_attention


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
