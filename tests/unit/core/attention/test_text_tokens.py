"""Text in one sequence with the video: what it attends to, and what stands in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adastate_core.anchors import policy_for
from adastate_core.attention.block_attention import Attention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.kv_cache import KVCache, KVEntry
from adastate_core.attention.kv_format import PLAIN
from adastate_core.attention.text_tokens import TextPrefill
from adastate_core.errors import LayoutError
from tests.support.attention_blocks import (
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
    softmax_attention,
)

ALONE = replace(FROZEN, text_sees="text", warmup_positions="grow")


def apart(how: str, tokens: int) -> tuple[slice, slice]:
    """Return where text and video are."""
    if how == "prefix":
        return slice(0, TEXT), slice(TEXT, tokens)
    return slice(tokens - TEXT, tokens), slice(0, tokens - TEXT)


@pytest.mark.parametrize("how", JOINT)
def test_text_alone_attends_to_text_and_the_video_to_everything(how: str) -> None:
    q, k, v = block(2, TEXT)
    text, video = apart(how, q.shape[1])
    view = chunk(ALONE, {0: KVCache.empty()}, geometry(JOINT[how]))
    out = view.attend(call(q, k, v, how=JOINT[how]))
    near(out[:, text], softmax_attention(q[:, text], k[:, text], v[:, text]))
    near(out[:, video], softmax_attention(q[:, video], k, v))


@pytest.mark.parametrize("how", JOINT)
def test_the_past_is_for_the_video(how: str) -> None:
    """Beside a cache, with an anchor of another strength, whose bias is not for text alone."""
    q, k, v = block(2, TEXT)
    text, video = apart(how, q.shape[1])
    past, weak = {0: cache_of(FULL, 7)}, replace(FROZEN, anchor_strength=0.5)
    everything = chunk(weak, past, geometry(JOINT[how])).attend(call(q, k, v, how=JOINT[how]))
    config = replace(weak, text_sees="text")
    out = chunk(config, past, geometry(JOINT[how])).attend(call(q, k, v, how=JOINT[how]))
    near(out[:, video], everything[:, video])
    near(out[:, text], softmax_attention(q[:, text], k[:, text], v[:, text]))


def test_a_mask_of_the_model_is_cut_for_either_part() -> None:
    q, k, v = block(2, TEXT)
    asked: list[tuple[slice, slice]] = []

    def of_part(queries: slice, keys: slice) -> Attention:
        asked.append((queries, keys))
        return given.attention

    given = call(q, k, v, how=JOINT["prefix"])
    view = chunk(ALONE, {0: KVCache.empty()}, geometry(JOINT["prefix"]))
    view.attend(replace(given, of_part=of_part))
    tokens = q.shape[1]
    assert asked == [
        (slice(0, TEXT), slice(0, TEXT)),
        (slice(TEXT, tokens), slice(0, tokens)),
    ]


def prefill(how: str, k: Tensor, v: Tensor, at: tuple[int, ...] = (0,)) -> dict[int, KVCache]:
    """Prefill text that stands with one frame of a video."""
    view = TextPrefill(geometry(JOINT[how]), at, PLAIN)
    for layer in range(LAYERS):
        view.attend(call(k, k + layer, v + layer, layer, at=at, how=JOINT[how]))
    return view.prefilled()


@pytest.mark.parametrize("how", JOINT)
def test_prefilled_text_takes_the_place_of_that_of_the_block(how: str) -> None:
    q, k, v = block(2, TEXT)
    text, video = apart(how, q.shape[1])
    other = [torch.randn_like(x) for x in (k, v)]
    one_frame = [torch.cat((x[:, text], x[:, video][:, :TOKENS]), 1) for x in other]
    if how == "suffix":
        one_frame = [x.roll(-TEXT, 1) for x in one_frame]
    view = ChunkAttention(
        replace(ALONE, text_sees="prefill"),
        policy_for(ALONE),
        {0: KVCache.empty()},
        geometry(JOINT[how]),
        text=prefill(how, *one_frame),
    )
    given = call(q, k, v, 1, how=JOINT[how])
    before = k.clone(), v.clone()
    out = view.attend(given)
    assert all(torch.equal(x, y) for x, y in zip((k, v), before, strict=True))
    for x, y in zip((k, v), other, strict=True):
        x[:, text] = y[:, text] + 1  # as in layer 1
    near(out[:, video], softmax_attention(q[:, video], k, v))


def test_prefilled_text_is_that_of_each_conditioning() -> None:
    _, k, v = block(1, TEXT, batch=2)
    text = prefill("prefix", k, v, at=(1, 0))
    for place, conditioning in enumerate((1, 0)):
        keys, values = text[conditioning].get(KVEntry(0, "self", "text"))
        assert torch.equal(keys, k[place : place + 1, :TEXT])
        assert torch.equal(values, v[place : place + 1, :TEXT])


def test_text_of_another_length_is_refused() -> None:
    view = ChunkAttention(
        replace(ALONE, text_sees="prefill"),
        policy_for(ALONE),
        {0: KVCache.empty()},
        geometry(JOINT["prefix"]),
        text=prefill("prefix", *block(1, TEXT)[1:]),
    )
    q, k, v = block(2, TEXT - 1)
    with pytest.raises(LayoutError, match=r"^A node changes the prompt"):
        view.attend(call(q, k, v, how=JOINT["prefix"]))


def test_a_prefill_that_misses_a_layer_is_refused() -> None:
    q, k, v = block(1, TEXT)
    view = TextPrefill(geometry(JOINT["prefix"]), (0,), PLAIN)
    view.attend(call(q, k, v, how=JOINT["prefix"]))
    with pytest.raises(LayoutError, match=r"^Only 1 of 2 layers"):
        view.prefilled()
