"""Streams as values: branches, holds, resets, bounded histories, replays."""

from __future__ import annotations

import contextlib
import gc
import hashlib

import pytest
import torch

from adastate_core.attention.kv_cache import KVCache
from adastate_core.config import StreamConfig
from adastate_core.errors import ConfigError, LayoutError, NonFiniteError, StateMismatchError
from adastate_core.fingerprint import ModelFingerprint
from adastate_core.stream.state import StreamState
from adastate_core.stream.summary import describe_stream
from tests.support.reference_host import Harness


def digest(state: StreamState) -> str:
    parts = hashlib.sha256()
    for event in state.events:
        for name in ("state", "content"):
            tensor = getattr(event, name, None)
            if tensor is not None:
                parts.update(tensor.numpy().tobytes())
    return parts.hexdigest()


def test_loop_and_chain_are_bit_identical() -> None:
    loop, chain = Harness(), Harness()
    at_once = loop.step(loop.fresh, 5, seed=3)
    chained = chain.fresh
    for _ in range(5):
        chained = chain.step(chained, seed=3)
    assert torch.equal(at_once.content(), chained.content())


def test_branches_do_not_disturb_each_other() -> None:
    harness, alone = Harness(), Harness()
    trunk = harness.step(harness.fresh, 2)
    before = digest(trunk)
    left = harness.step(trunk, 3, prompt=1)
    right = harness.step(trunk, 3, prompt=2)
    again = harness.step(trunk, 3, prompt=1)
    assert digest(trunk) == before
    assert torch.equal(left.content(), again.content())
    assert not torch.equal(left.content(), right.content())
    solo = alone.step(alone.step(alone.fresh, 2), 3, prompt=2)
    assert torch.equal(right.content(), solo.content())


def test_a_step_commits_only_what_is_missing() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 4)
    assert harness.host.commits == 3  # the last chunk is committed when it is needed
    harness.step(state, 1)
    assert harness.host.commits == 4
    harness.step(state, 1, seed=9)
    assert harness.host.commits == 4  # re-rolling costs nothing
    harness.pool.clear()
    harness.step(state, 1, seed=9)
    assert harness.host.commits == 8


def test_replay_under_other_prompts_is_exact() -> None:
    warm, cold = Harness(), Harness()
    state = warm.fresh
    for prompt in (0, 1, 1, 2):
        state = warm.step(state, 2, prompt=prompt)
    expected = warm.step(state, 2, prompt=3)
    assert torch.equal(cold.step(state, 2, prompt=3).content(), expected.content())


def test_replay_under_a_wrong_prompt_differs() -> None:
    """The negative control: a record with another prompt must not give the same stream."""
    harness = Harness()
    state = harness.step(harness.fresh, 2, prompt=0)
    other = Harness()
    forged = other.step(other.fresh, 2, prompt=1)
    events = tuple(
        type(a)(**{**{f: getattr(a, f) for f in a.__dataclass_fields__}, "positive": b.positive})
        for a, b in zip(state.chunks, forged.chunks, strict=True)
    )
    forged = StreamState(
        state.latent_shape,
        state.fingerprint,
        chunk_index=2,
        events=events,
        conditionings=forged.conditionings,
    )
    a = harness.step(state, 1, prompt=2)
    b = Harness().step(forged, 1, prompt=2)
    assert not torch.equal(a.newest_content(), b.newest_content())


def test_failure_keeps_the_cache_of_the_input() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 3)
    expected = harness.step(state, 1, seed=5)
    harness.host.fail_at = harness.host.denoised + 3
    with pytest.raises(RuntimeError, match="on purpose"):
        harness.step(state, 6)
    harness.host.fail_at = None
    commits = harness.host.commits
    again = harness.step(state, 1, seed=5)
    assert harness.host.commits == commits
    assert torch.equal(again.content(), expected.content())
    assert len(harness.pool.sets) <= 2


def test_nothing_stays_in_memory_beyond_the_pool() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(o) is KVCache for o in gc.get_objects())

    before = alive()
    harness = Harness()
    state = harness.step(harness.fresh, 5)
    assert alive() - before == len(harness.pool.sets) == 2
    harness.host.fail_at = harness.host.denoised + 3
    with contextlib.suppress(RuntimeError):
        harness.step(state, 6)
    assert alive() - before == len(harness.pool.sets) == 2
    harness.pool.clear()
    assert alive() == before
    assert state.chunk_index == 5


def test_hold_keeps_slot_zero() -> None:
    """Held, the slot depends on the state of chunk 0 alone; released, it follows again."""
    harness = Harness()
    one = harness.step(harness.fresh, 1)
    held = harness.step(one.hold_anchor(-1), 3)
    assert [c.held for c in held.chunks] == [False, True, True, True]
    free = harness.step(one, 3)
    assert torch.equal(held.content()[:, :, :6], free.content()[:, :, :6])
    assert not torch.equal(held.content(), free.content())
    counted = harness.step(one.hold_anchor(1), 3)
    assert [c.held for c in counted.chunks] == [False, True, False, False]
    from_start = harness.step(harness.fresh.hold_anchor(-1), 4)
    assert torch.equal(from_start.content(), held.content())
    released = harness.step(held.hold_anchor(0), 2)
    assert [c.held for c in released.chunks[-2:]] == [False, False]


def test_reset_anchor_is_no_anchor_for_one_chunk() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2)
    harness.step(state.reset("anchor"), 2)
    assert harness.host.times[-2:] == [(1, 2, 3, 0, 4, 5, 6), (0, 1, 2, 3, 0, 4, 5, 6)]
    harness.step(state.reset("window"), 1)
    assert harness.host.times[-1] == (0, 0, 4, 5, 6)
    harness.step(state.reset("all"), 1)
    assert harness.host.times[-1] == (0, 4, 5, 6)


def test_reset_all_equals_a_fresh_stream_at_the_same_chunk() -> None:
    harness = Harness()
    a = harness.step(harness.step(harness.fresh, 2).reset("all"), 2)
    b = harness.step(harness.step(harness.fresh, 2, prompt=3).reset("all"), 2)
    assert torch.equal(a.content()[:, :, 6:], b.content()[:, :, 6:])


def test_reset_with_a_latent_remembers_it() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2)
    clip = torch.randn((1, 4, 4, 2, 3), generator=torch.Generator().manual_seed(0))
    outcomes = [harness.step(state.reset(s, clip)) for s in ("anchor", "window", "all")]
    outcomes.append(harness.step(state))
    newest = [o.newest_content() for o in outcomes]
    for i, a in enumerate(newest):
        assert all(not torch.equal(a, b) for b in newest[i + 1 :])


def test_start_frames_fill_the_window_from_their_end() -> None:
    harness = Harness(StreamConfig(window_frames=4))
    clip = torch.randn((1, 4, 9, 2, 3), generator=torch.Generator().manual_seed(0))
    harness.step(harness.fresh.start_with(clip), 1)
    assert harness.host.commits == 2
    assert harness.host.times[-1] == (1, 2, 3, 4, 0, 5, 6, 7)
    longer = torch.cat((torch.randn((1, 4, 2, 2, 3)), clip), dim=2)
    other = Harness(StreamConfig(window_frames=4))
    a = harness.step(harness.fresh.start_with(clip), 1)
    b = other.step(other.fresh.start_with(longer), 1)
    assert torch.equal(a.content(), b.content())


def test_bounded_history_forgets_latents_but_not_receipts() -> None:
    harness = Harness()
    short = StreamState(harness.fresh.latent_shape, history_chunks=2)
    full, bounded = harness.step(harness.fresh, 6), Harness().step(short, 6)
    assert torch.equal(full.content()[:, :, -6:], bounded.content())
    assert [c.index for c in bounded.chunks] == list(range(6))
    assert len(bounded.conditionings) == 1


def test_bounded_history_holds_as_many_chunks_as_it_says() -> None:
    harness = Harness()
    state = StreamState(harness.fresh.latent_shape, history_chunks=4)
    for made in range(1, 10):
        state = harness.step(state, 1)
        remembered = [c.index for c in state.chunks if c.content is not None]
        assert remembered == list(range(made))[-4:]


def test_bounded_history_is_exact_while_warm_and_says_when_it_is_not() -> None:
    harness = Harness()
    state = harness.step(StreamState(harness.fresh.latent_shape, history_chunks=2), 5)
    commits = harness.host.commits
    warm = harness.step(state, 1)
    assert harness.host.commits == commits + 1
    assert not warm.last_chunk.approximate
    harness.pool.clear()
    cold = harness.step(state, 1)
    assert cold.last_chunk.approximate
    assert harness.step(cold, 1).last_chunk.approximate


def test_other_weights_are_replayed_and_marked() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2)
    patched = harness.step(state, 1, weights="lora")
    assert patched.last_chunk.approximate
    assert not harness.step(state, 1).last_chunk.approximate


@pytest.mark.parametrize("switch", ["recache", "flush"])
def test_prompt_switches(switch: str) -> None:
    harness = Harness(StreamConfig(prompt_switch=switch))
    state = harness.step(harness.fresh, 2)
    swapped = harness.step(state, 1, prompt=1, config=StreamConfig())
    switched = harness.step(state, 1, prompt=1)
    assert not torch.equal(swapped.newest_content(), switched.newest_content())
    if switch == "flush":
        assert harness.host.times[-1] == (0, 3, 0, 4, 5, 6)
    same = harness.step(state, 1)
    plain = harness.step(state, 1, config=StreamConfig())
    assert harness.host.times[-1] == (0, 1, 2, 3, 0, 4, 5, 6)
    assert torch.equal(same.newest_content(), plain.newest_content())


def test_sizes_and_policy_may_change_on_the_way() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2)
    for config in (
        StreamConfig(window_frames=1),
        StreamConfig(window_frames=6),
        StreamConfig(anchor="frozen"),
        StreamConfig(anchor="none", chunk_frames=2),
        StreamConfig(state_frames=2),
    ):
        after = harness.step(state, 3, config=config)
        assert after.chunk_index == 5
        cold = Harness().step(state, 3, config=config)
        assert torch.equal(after.content(), cold.content())


def test_another_model_is_refused() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 1)
    with pytest.raises(StateMismatchError, match="Load the model that made it"):
        state.check_model(ModelFingerprint("reference", 4, "1"))
    with pytest.raises(StateMismatchError, match=r"^The empty latent is for another model"):
        state.check_model(ModelFingerprint("reference", 16, "0"))


def test_nan_is_refused_and_the_state_stays() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 1)
    good = harness.model.out.bias.clone()
    harness.model.out.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"^Chunk 1 came out broken"):
        harness.step(state, 1)
    harness.model.out.bias.copy_(good)
    assert harness.step(state, 1).chunk_index == 2


def test_bad_values_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^window_frames is -1"):
        StreamConfig(window_frames=-1)
    with pytest.raises(ConfigError, match=r'^Anchor cannot be "sink". Choose adaptive or frozen'):
        StreamConfig(anchor="sink")
    with pytest.raises(ConfigError, match="Hold Anchor"):
        Harness().fresh.hold_anchor(-2)
    with pytest.raises(
        LayoutError,
        match=r"^The given latent is 3 x 3; this stream is 3 x 2\. Encode it with the VAE of",
    ):
        Harness().fresh.start_with(torch.zeros((1, 4, 1, 3, 3)))


def test_the_report_tells_what_happened() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 2).reset("anchor").hold_anchor(2)
    state = harness.step(state, 1, prompt=1)
    report = describe_stream(state)
    assert [e["event"] for e in report["events"]] == ["chunk", "chunk", "reset", "hold", "chunk"]
    assert report["next_chunk"] == 3
    assert report["hidden_state"][0]["from_first"] == 0.0
    assert report["hidden_state"][2]["from_previous"] > 0.1
    prompts = [e["prompt"] for e in report["events"] if e["event"] == "chunk"]
    assert prompts[0] == prompts[1] != prompts[2]
