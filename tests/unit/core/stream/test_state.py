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
from tests.support.reference_host import Studio


def digest(state: StreamState) -> str:
    parts = hashlib.sha256()
    for event in state.events:
        for name in ("state", "content"):
            tensor = getattr(event, name, None)
            if tensor is not None:
                parts.update(tensor.numpy().tobytes())
    return parts.hexdigest()


def test_loop_and_chain_are_bit_identical() -> None:
    loop, chain = Studio(), Studio()
    at_once = loop.step(loop.fresh, 5, seed=3)
    chained = chain.fresh
    for _ in range(5):
        chained = chain.step(chained, seed=3)
    assert torch.equal(at_once.content(), chained.content())


def test_branches_do_not_disturb_each_other() -> None:
    studio, alone = Studio(), Studio()
    trunk = studio.step(studio.fresh, 2)
    before = digest(trunk)
    left = studio.step(trunk, 3, prompt=1)
    right = studio.step(trunk, 3, prompt=2)
    again = studio.step(trunk, 3, prompt=1)
    assert digest(trunk) == before
    assert torch.equal(left.content(), again.content())
    assert not torch.equal(left.content(), right.content())
    solo = alone.step(alone.step(alone.fresh, 2), 3, prompt=2)
    assert torch.equal(right.content(), solo.content())


def test_a_step_commits_only_what_is_missing() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 4)
    assert studio.host.commits == 3  # the last chunk is committed when it is needed
    studio.step(state, 1)
    assert studio.host.commits == 4
    studio.step(state, 1, seed=9)
    assert studio.host.commits == 4  # re-rolling costs nothing
    studio.pool.clear()
    studio.step(state, 1, seed=9)
    assert studio.host.commits == 8


def test_replay_under_other_prompts_is_exact() -> None:
    warm, cold = Studio(), Studio()
    state = warm.fresh
    for prompt in (0, 1, 1, 2):
        state = warm.step(state, 2, prompt=prompt)
    expected = warm.step(state, 2, prompt=3)
    assert torch.equal(cold.step(state, 2, prompt=3).content(), expected.content())


def test_replay_under_a_wrong_prompt_differs() -> None:
    """The negative control: a record with another prompt must not give the same stream."""
    studio = Studio()
    state = studio.step(studio.fresh, 2, prompt=0)
    other = Studio()
    forged = other.step(other.fresh, 2, prompt=1)
    events = tuple(
        type(a)(**{**{f: getattr(a, f) for f in a.__dataclass_fields__}, "positive": b.positive})
        for a, b in zip(state.chunks, forged.chunks, strict=True)
    )
    forged = StreamState(
        state.latent_shape, state.fingerprint, chunk_index=2, events=events,
        conditionings=forged.conditionings,
    )  # fmt: skip
    a = studio.step(state, 1, prompt=2)
    b = Studio().step(forged, 1, prompt=2)
    assert not torch.equal(a.newest_content(), b.newest_content())


def test_failure_keeps_the_cache_of_the_input() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 3)
    expected = studio.step(state, 1, seed=5)
    studio.host.fail_at = studio.host.denoised + 3
    with pytest.raises(RuntimeError, match="on purpose"):
        studio.step(state, 6)
    studio.host.fail_at = None
    commits = studio.host.commits
    again = studio.step(state, 1, seed=5)
    assert studio.host.commits == commits
    assert torch.equal(again.content(), expected.content())
    assert len(studio.pool.sets) <= 2


def test_nothing_stays_in_memory_beyond_the_pool() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(o) is KVCache for o in gc.get_objects())

    before = alive()
    studio = Studio()
    state = studio.step(studio.fresh, 5)
    assert alive() - before == len(studio.pool.sets) == 2
    studio.host.fail_at = studio.host.denoised + 3
    with contextlib.suppress(RuntimeError):
        studio.step(state, 6)
    assert alive() - before == len(studio.pool.sets) == 2
    studio.pool.clear()
    assert alive() == before
    assert state.chunk_index == 5


def test_hold_keeps_slot_zero() -> None:
    """Held, the slot depends on the state of chunk 0 alone; released, it follows again."""
    studio = Studio()
    one = studio.step(studio.fresh, 1)
    held = studio.step(one.hold_anchor(-1), 3)
    assert [c.held for c in held.chunks] == [False, True, True, True]
    free = studio.step(one, 3)
    assert torch.equal(held.content()[:, :, :6], free.content()[:, :, :6])
    assert not torch.equal(held.content(), free.content())
    counted = studio.step(one.hold_anchor(1), 3)
    assert [c.held for c in counted.chunks] == [False, True, False, False]
    from_start = studio.step(studio.fresh.hold_anchor(-1), 4)
    assert torch.equal(from_start.content(), held.content())
    released = studio.step(held.hold_anchor(0), 2)
    assert [c.held for c in released.chunks[-2:]] == [False, False]


def test_reset_anchor_is_no_anchor_for_one_chunk() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2)
    studio.step(state.reset("anchor"), 2)
    assert studio.host.times[-2:] == [(1, 2, 3, 0, 4, 5, 6), (0, 1, 2, 3, 0, 4, 5, 6)]
    studio.step(state.reset("window"), 1)
    assert studio.host.times[-1] == (0, 0, 4, 5, 6)
    studio.step(state.reset("all"), 1)
    assert studio.host.times[-1] == (0, 4, 5, 6)


def test_reset_all_equals_a_fresh_stream_at_the_same_chunk() -> None:
    studio = Studio()
    a = studio.step(studio.step(studio.fresh, 2).reset("all"), 2)
    b = studio.step(studio.step(studio.fresh, 2, prompt=3).reset("all"), 2)
    assert torch.equal(a.content()[:, :, 6:], b.content()[:, :, 6:])


def test_reset_with_a_latent_remembers_it() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2)
    clip = torch.randn((1, 4, 4, 2, 3), generator=torch.Generator().manual_seed(0))
    outcomes = [studio.step(state.reset(s, clip)) for s in ("anchor", "window", "all")]
    outcomes.append(studio.step(state))
    newest = [o.newest_content() for o in outcomes]
    for i, a in enumerate(newest):
        assert all(not torch.equal(a, b) for b in newest[i + 1 :])


def test_start_frames_fill_the_window_from_their_end() -> None:
    studio = Studio(StreamConfig(window_frames=4))
    clip = torch.randn((1, 4, 9, 2, 3), generator=torch.Generator().manual_seed(0))
    studio.step(studio.fresh.start_with(clip), 1)
    assert studio.host.commits == 2
    assert studio.host.times[-1] == (1, 2, 3, 4, 0, 5, 6, 7)
    longer = torch.cat((torch.randn((1, 4, 2, 2, 3)), clip), dim=2)
    other = Studio(StreamConfig(window_frames=4))
    a = studio.step(studio.fresh.start_with(clip), 1)
    b = other.step(other.fresh.start_with(longer), 1)
    assert torch.equal(a.content(), b.content())


def test_bounded_history_forgets_latents_but_not_receipts() -> None:
    studio = Studio()
    short = StreamState(studio.fresh.latent_shape, history_chunks=2)
    full, bounded = studio.step(studio.fresh, 6), Studio().step(short, 6)
    assert torch.equal(full.content()[:, :, -6:], bounded.content())
    assert [c.index for c in bounded.chunks] == list(range(6))
    assert len(bounded.conditionings) == 1


def test_bounded_history_holds_as_many_chunks_as_it_says() -> None:
    studio = Studio()
    state = StreamState(studio.fresh.latent_shape, history_chunks=4)
    for made in range(1, 10):
        state = studio.step(state, 1)
        remembered = [c.index for c in state.chunks if c.content is not None]
        assert remembered == list(range(made))[-4:]


def test_bounded_history_is_exact_while_warm_and_says_when_it_is_not() -> None:
    studio = Studio()
    state = studio.step(StreamState(studio.fresh.latent_shape, history_chunks=2), 5)
    commits = studio.host.commits
    warm = studio.step(state, 1)
    assert studio.host.commits == commits + 1
    assert not warm.last_chunk.approximate
    studio.pool.clear()
    cold = studio.step(state, 1)
    assert cold.last_chunk.approximate
    assert studio.step(cold, 1).last_chunk.approximate


def test_other_weights_are_replayed_and_marked() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2)
    patched = studio.step(state, 1, weights="lora")
    assert patched.last_chunk.approximate
    assert not studio.step(state, 1).last_chunk.approximate


@pytest.mark.parametrize("switch", ["recache", "flush"])
def test_prompt_switches(switch: str) -> None:
    studio = Studio(StreamConfig(prompt_switch=switch))
    state = studio.step(studio.fresh, 2)
    swapped = studio.step(state, 1, prompt=1, config=StreamConfig())
    switched = studio.step(state, 1, prompt=1)
    assert not torch.equal(swapped.newest_content(), switched.newest_content())
    if switch == "flush":
        assert studio.host.times[-1] == (0, 3, 0, 4, 5, 6)
    same = studio.step(state, 1)
    plain = studio.step(state, 1, config=StreamConfig())
    assert studio.host.times[-1] == (0, 1, 2, 3, 0, 4, 5, 6)
    assert torch.equal(same.newest_content(), plain.newest_content())


def test_sizes_and_policy_may_change_on_the_way() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2)
    for config in (
        StreamConfig(window_frames=1),
        StreamConfig(window_frames=6),
        StreamConfig(anchor="frozen"),
        StreamConfig(anchor="none", chunk_frames=2),
        StreamConfig(state_frames=2),
    ):
        after = studio.step(state, 3, config=config)
        assert after.chunk_index == 5
        cold = Studio().step(state, 3, config=config)
        assert torch.equal(after.content(), cold.content())


def test_another_model_is_refused() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 1)
    with pytest.raises(StateMismatchError, match="load the model that made this state"):
        state.check_model(ModelFingerprint("reference", 4, "1"))
    with pytest.raises(StateMismatchError, match="latent channels"):
        state.check_model(ModelFingerprint("reference", 16, "0"))


def test_nan_is_refused_and_the_state_stays() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 1)
    good = studio.model.out.bias.clone()
    studio.model.out.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="chunk 1"):
        studio.step(state, 1)
    studio.model.out.bias.copy_(good)
    assert studio.step(state, 1).chunk_index == 2


def test_bad_values_are_named() -> None:
    with pytest.raises(ConfigError, match="window_frames: got -1"):
        StreamConfig(window_frames=-1)
    with pytest.raises(ConfigError, match="anchor: got 'sink', expected adaptive or frozen"):
        StreamConfig(anchor="sink")
    with pytest.raises(ConfigError, match="Hold Anchor"):
        Studio().fresh.hold_anchor(-2)
    with pytest.raises(LayoutError, match=r"expected \(1, 4, frames, 2, 3\)"):
        Studio().fresh.start_with(torch.zeros((1, 4, 1, 3, 3)))


def test_the_report_tells_what_happened() -> None:
    studio = Studio()
    state = studio.step(studio.fresh, 2).reset("anchor").hold_anchor(2)
    state = studio.step(state, 1, prompt=1)
    report = describe_stream(state)
    assert [e["event"] for e in report["events"]] == ["chunk", "chunk", "reset", "hold", "chunk"]
    assert report["next_chunk"] == 3
    assert report["hidden_state"][0]["from_first"] == 0.0
    assert report["hidden_state"][2]["from_previous"] > 0.1
    prompts = [e["prompt"] for e in report["events"] if e["event"] == "chunk"]
    assert prompts[0] == prompts[1] != prompts[2]
