"""Commit passes: what enters the cache, in which form, and what they see of it."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from adastate_core.anchors import policy_for
from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.commit_attention import CommitAttention
from adastate_core.attention.geometry import Track
from adastate_core.attention.kv_cache import KVCache, KVEntry
from adastate_core.attention.layers import LayerCall, joint
from adastate_core.attention.rope import SpatialRope
from adastate_core.clock import StreamClock
from adastate_core.config import StreamConfig
from adastate_core.errors import LayoutError
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
    commit,
    committed,
    geometry,
    near,
    placed,
    rotated,
    softmax_attention,
)


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


@pytest.mark.parametrize("frame", [Fraction(1), Fraction(3, 2)])
def test_an_averaged_anchor_blends_at_one_place_in_time(frame: Fraction) -> None:
    """Also where the unit of time is a latent of sound, and a frame some of them."""
    config = replace(FROZEN, anchor="ema", ema_rate=0.75)
    cache = cache_of(FULL, 7)
    q, k, v = block(2)
    how = geometry(clock=StreamClock((Fraction(0),), frame))
    made = committed(commit(config, {0: cache}, how), q, k, v)
    keys, values = (x.split(TOKENS, dim=1) for x in cache.get(KVEntry(0)))
    # Two frames leave, the older one first: 0.75^2, 0.25 x 0.75 and 0.25.
    shares = (0.5625, 0.1875, 0.25)
    moved = (keys[0], *(rotated(keys[i], float(-(3 + i) * frame)) for i in (1, 2)))
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
    # Keys of a call that turns with time alone are the same in every place.
    alone = LayerCall(in_space=False)
    how = geometry(alone, spatial_rope=space)
    made = committed(commit(config, {0: cache_of(cached, 7)}, how), q, k, v, how=alone)
    keys = made.get(KVEntry(0))[0][:, TOKENS : 2 * TOKENS]
    assert torch.equal(keys[:, 0], keys[:, 1])


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


HEARD = joint("text", "sound", "video")


HOW = geometry(
    HEARD,
    can_place=True,
    sound=Track("sound", 2, lanes=2),
    clock=StreamClock((Fraction(0),), Fraction(2)),
)
"""Frames of two latents of sound each, in two lanes."""
PER_FRAME = 4
"""Tokens of the sound of a frame."""


def heard(config: StreamConfig) -> tuple[KVCache, Tensor]:
    """Return the cache of three chunks, and the keys of the first one."""
    cache, first = KVCache.empty(), None
    for number in range(3):
        q, k, v = block(2 + PER_FRAME, TEXT)
        k, v = k + 10 * number, v + 10 * number
        view = CommitAttention(config, policy_for(config), {0: cache}, HOW, first_frame=2 * number)
        cache = committed(view, q, k, v, how=HEARD)
        first = k if first is None else first
    assert first is not None
    return cache, first


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_the_strength_of_an_anchor_is_that_of_slot_0_in_every_track(
    kept: bool, strength: float
) -> None:
    """The past of the sound lies in front of that of the video, of which slot 0 is a part."""
    config = replace(FROZEN, positions="absolute", anchor_sound=kept, anchor_strength=strength)
    cache, _ = heard(config)
    seen: list[Tensor] = []

    def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        seen.extend((v[:, bias != 0], bias[bias != 0]))
        return q

    view = ChunkAttention(config, policy_for(config), {0: cache}, HOW, first_frame=6)
    view.attend(SelfAttention(0, (0,), *block(2 + PER_FRAME, TEXT), attention, HEARD))
    sound, video = (cache.get(KVEntry(0, "self", track))[1] for track in ("sound", "video"))
    anchor = [sound[:, :PER_FRAME]] if kept else []
    assert torch.equal(seen[0], torch.cat([*anchor, video[:, :TOKENS]], dim=1))
    added = math.log(strength) if strength else -math.inf
    assert seen[1].tolist() == pytest.approx([added] * len(seen[1]))


@pytest.mark.parametrize("kept", [False, True])
def test_an_anchor_keeps_its_sound_if_it_is_to(kept: bool) -> None:
    """The first frame is the anchor, two are the window."""
    config = replace(FROZEN, positions="absolute", anchor_sound=kept)
    cache, first = heard(config)
    assert [len(ticks) for ticks in cache.cached.sound] == [2 if kept else 0, 2, 2]
    keys, _ = cache.get(KVEntry(0, "self", "sound"))
    assert keys.shape[1] == (3 if kept else 2) * PER_FRAME
    if kept:
        sides = first[:, TEXT : TEXT + 2 * PER_FRAME].unflatten(1, (2, -1))
        assert torch.equal(keys[:, :PER_FRAME], sides[:, :, :2].transpose(1, 2).flatten(1, 2))
        following = ChunkAttention(config, policy_for(config), {0: cache}, HOW, first_frame=6)
        out = following.attend(call(*block(2 + PER_FRAME, TEXT), how=HEARD))
        assert out.shape[1] == TEXT + (2 + PER_FRAME) * TOKENS
