"""The recurrence against straight-line references that use neither the cache nor the layout."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from adastate_core.config import StreamConfig
from adastate_core.stream.state import StreamState
from tests.support.reference_dit import ReferenceDiT, plain_attention
from tests.support.reference_host import SIGMAS, Harness, text

# Indices of chunk k >= 1 written out by hand: slot 0, window, state, content.
BY_HAND = {
    "adaptive": ([0], [1, 2, 3], [0], [4, 5, 6]),
    "split01": ([0], [2, 3, 4], [1], [5, 6, 7]),
    "none": ([], [0, 1, 2], [], [3, 4, 5]),
}
CONFIGS = {
    "adaptive": StreamConfig(),
    "split01": StreamConfig(state_rope="split01"),
    "none": StreamConfig(anchor="none"),
}


class StraightLine:
    """Every chunk by hand: un-rotated keys of the last clean block, rotated anew where used."""

    def __init__(self, model: ReferenceDiT, times: tuple[list[int], ...], condition: Tensor):
        self.model, self.text = model, condition
        self.anchor_at, self.window_at, self.state_at, self.content_at = times
        self.past: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, x: Tensor, sigma: float, *, keep: bool = False) -> Tensor:
        model = self.model
        height, width = x.shape[3:]
        tokens, time = model.embed(x, sigma)
        block_at = self.state_at + self.content_at
        raw = []
        for layer, block in enumerate(model.blocks):
            q, k, v = (model.split(y) for y in block.qkv(tokens, time))
            raw.append((k, v))
            keys = model.rotate(k, block_at, height, width)
            values = v
            if self.past is not None:
                old_k, old_v = self.past[layer]
                past_at = self.anchor_at + self.window_at
                keys = torch.cat((model.rotate(old_k, past_at, height, width), keys), dim=1)
                values = torch.cat((old_v, values), dim=1)
            q = model.rotate(q, block_at, height, width)
            out = plain_attention(q, keys, values).flatten(2)
            tokens = block.finish(tokens, out, self.text, time)
        if keep:
            # W_p = F, so the whole last block is exactly slot 0 and the window.
            self.past = raw
        return model.project(tokens, x.shape)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("can_shift", [True, False])
def test_stream_equals_the_recurrence_written_out(name: str, can_shift: bool) -> None:
    harness = Harness(CONFIGS[name], can_shift=can_shift)
    state = harness.step(harness.fresh, 4, seed=7)
    line = StraightLine(harness.model, BY_HAND[name], text(0).unpack())
    from adastate_core.rollout.noise import BlockNoise

    states = len(BY_HAND[name][2])
    for k, chunk in enumerate(state.chunks):
        noise = BlockNoise(7, k, (1, 4, states + 3, 2, 3), states)
        x = noise.initial().video
        for sigma, following in pairwise(SIGMAS):
            x = x - sigma * line.forward(x, sigma)
            if following:
                x = (1 - following) * x + following * noise.renoise(x).video
        line.forward(x, 0.0, keep=True)
        assert chunk.content is not None
        torch.testing.assert_close(chunk.content, x[:, :, states:], atol=1e-5, rtol=0)
        if states:
            assert chunk.state is not None
            torch.testing.assert_close(chunk.state, x[:, :, :states], atol=1e-5, rtol=0)


def test_chunks_with_the_cache_equal_one_block_causal_forward() -> None:
    """With a window over all of the past, chunk by chunk is one masked forward."""
    harness = Harness(StreamConfig(anchor="none", chunk_frames=2, window_frames=4))
    model, condition = harness.model, text(0).unpack()
    x = torch.randn((1, 4, 6, 2, 3), generator=torch.Generator().manual_seed(3))
    chunk_of = torch.arange(6).repeat_interleave(6) // 2
    mask = chunk_of[:, None] >= chunk_of[None, :]

    def causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2)

    expected = model(x, 0.0, condition, 0, causal)
    unmasked = model(x, 0.0, condition, 0, lambda layer, q, k, v: plain_attention(q, k, v))
    assert (unmasked - expected).abs().max() > 0.01  # the mask matters, so the test can fail

    from adastate_core.anchors import policy_for
    from adastate_core.attention.commit_attention import CommitAttention
    from adastate_core.attention.kv_cache import KVCache

    past = {0: KVCache.empty()}
    harness.host.text = [condition]
    for start in (0, 2, 4):
        view = CommitAttention(harness.config, policy_for(harness.config), past, harness.geometry)
        out = harness.host.forward(x[:, :, start : start + 2], 0.0, view)
        past = view.committed()
        torch.testing.assert_close(out, expected[:, :, start : start + 2], atol=1e-5, rtol=0)


def test_temporal_indices_are_the_same_at_every_chunk() -> None:
    harness = Harness()
    harness.step(harness.fresh, 6)
    assert harness.host.times[0] == (0, 4, 5, 6)
    assert set(harness.host.times[1:]) == {(0, 1, 2, 3, 0, 4, 5, 6)}


def test_cache_is_constant_from_chunk_one_on() -> None:
    harness = Harness()
    sizes = []
    state = harness.fresh
    for _ in range(6):
        state = harness.step(state)
        sizes.append(harness.pool.nbytes)
    assert sizes[0] == 0  # nothing is committed before it is needed
    assert sizes[1] < sizes[2]  # the newest set and the one before
    assert len(set(sizes[2:])) == 1
    assert set(harness.host.key_tokens[-2:]) == {8 * 6}


def test_zero_state_frames_is_the_policy_none() -> None:
    stateless = Harness(StreamConfig(state_frames=0))
    none = Harness(StreamConfig(anchor="none"))
    a, b = stateless.step(stateless.fresh, 3), none.step(none.fresh, 3)
    assert torch.equal(a.content(), b.content())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state_rope", "split01"),
        ("warmup_positions", "grow"),
        ("content_sees_current_state", False),
        ("reencode_sees_prev_state", False),
        ("window_frames", 1),
        ("anchor", "frozen"),
        ("anchor_strength", 3.0),
    ],
)
def test_every_option_changes_the_stream(field: str, value: object) -> None:
    harness = Harness()
    base = harness.step(harness.fresh, 3)
    other = harness.step(harness.fresh, 3, config=StreamConfig(**{field: value}))
    assert (base.content()[:, :, -3:] - other.content()[:, :, -3:]).abs().max() > 1e-4


def test_content_does_not_see_the_current_state_when_told_so() -> None:
    """In chunk 0 nothing else carries the state, so its noise must not matter to the content."""
    blind = StreamConfig(content_sees_current_state=False)
    with_state, without = Harness(blind), Harness(StreamConfig(anchor="none"))
    a = with_state.step(with_state.fresh, 1, seed=4)
    b = without.step(without.fresh, 1, seed=4)
    torch.testing.assert_close(a.content(), b.content(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("anchor_frames", [1, 3, 5])
def test_frozen_anchor_keeps_the_first_frames(anchor_frames: int) -> None:
    harness = Harness(StreamConfig(anchor="frozen", anchor_frames=anchor_frames))
    state = harness.step(harness.fresh, 5)
    view = harness.host.times[-1]
    assert view[:anchor_frames] == tuple(range(anchor_frames))
    assert view == tuple(range(anchor_frames + 6))
    # Frames are in slot 0 or in the window, never in both.
    tokens = [n // 6 for n in harness.host.key_tokens]
    assert max(tokens) == anchor_frames + 6
    assert tokens[2 * (len(SIGMAS) - 1) + 2 * 1] <= 3 + 3
    assert state.hidden_states() is None
    assert state.context.anchor is not None
    assert torch.equal(state.context.anchor, state.content()[:, :, :anchor_frames])


def test_slot_zero_is_attended() -> None:
    harness = Harness()
    one = harness.step(harness.fresh, 1)
    plain = harness.step(one, 1, seed=1)
    kv = harness.pool.find(list(harness.pool.sets)[-1])
    assert kv is not None
    with torch.no_grad():
        for value in kv.values_of.parameters():
            value[:, : harness.geometry.tokens_per_frame] = 0
    zeroed = harness.step(one, 1, seed=1)
    assert (plain.content() - zeroed.content()).abs().max() > 1e-4


def test_anchor_strength_scales_the_weights_of_slot_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against attention written out: exponentials, slot 0 times the strength, normalised."""
    strength, seen = 2.5, []

    def written_out(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.append(bias)
        weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5).exp()
        if k.shape[1] == 8 * 6:  # a previous state is in front, one frame of six tokens
            weights[..., :6] *= strength
        return torch.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdim=True), v)

    harness = Harness(StreamConfig(anchor_strength=strength))
    ours = harness.step(harness.fresh, 4)
    monkeypatch.setattr("tests.support.reference_host.plain_attention", written_out)
    plain = Harness()
    expected = plain.step(plain.fresh, 4)
    torch.testing.assert_close(ours.content(), expected.content(), atol=1e-5, rtol=0)
    assert all(bias is None for bias in seen)  # at a strength of 1 no mask is asked for


def test_a_hidden_anchor_is_no_anchor() -> None:
    hidden = Harness(StreamConfig(anchor_strength=0.0))
    a = hidden.step(hidden.step(hidden.fresh, 2), 1)
    plain = Harness(StreamConfig(anchor_strength=0.0))
    b = plain.step(plain.step(plain.fresh, 2).reset("anchor"), 1)
    torch.testing.assert_close(a.newest_content(), b.newest_content(), atol=1e-5, rtol=0)


def test_a_batch_is_independent_streams() -> None:
    pair = Harness(batch=2)
    state = pair.step(pair.fresh, 3)
    kept = pair.host.forward
    assert kept is not None
    assert state.content().shape[0] == 2
    assert not torch.equal(state.content()[0], state.content()[1])


def test_a_run_ends_where_who_keeps_the_chunks_says_so() -> None:
    whole, parts = Harness(), Harness()
    expected = whole.step(whole.fresh, 5).content()
    state = parts.fresh
    for stop_after, chunks in ((2, 5), (3, 3)):
        made: list[StreamState] = []

        def keep(
            after: StreamState, made: list[StreamState] = made, last: int = stop_after
        ) -> bool:
            made.append(after)
            return len(made) < last

        state = parts.step(state, chunks, on_chunk=keep)
        assert len(made) == stop_after
    assert torch.equal(state.content(), expected)  # type: ignore[arg-type]


def test_a_run_that_keeps_no_start_holds_two_caches() -> None:
    """As many as if every chunk had a run of its own."""
    held: dict[bool, int] = {}
    for keep_start in (True, False):
        harness, counts = Harness(), []
        begun = harness.step(harness.fresh, 3)
        harness.host.on_commit = lambda harness=harness, counts=counts: counts.append(
            len(harness.pool.sets)
        )
        harness.step(begun, 4, keep_start=keep_start)
        held[keep_start] = max(counts)
    # The one that is read; the one that is written comes after it.
    assert held == {True: 2, False: 1}
