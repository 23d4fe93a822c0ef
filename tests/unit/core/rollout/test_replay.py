"""What has to be committed before a chunk, and under which keys sets are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adastate_core.attention.block_attention import BlockAttention
from adastate_core.attention.kv_cache import KVCache
from adastate_core.config import StreamConfig
from adastate_core.errors import ConfigError
from adastate_core.rollout.latent_block import LatentBlock
from adastate_core.rollout.noise import CommitNoise
from adastate_core.rollout.replay import with_noise
from adastate_core.rollout.replay_plan import ReplayPlan
from adastate_core.stream.event_log import EventLog
from adastate_core.stream.events import ChunkEvent, GivenLatentsEvent
from adastate_core.stream.state import StreamState
from tests.support.reference_host import Harness


def clip(seed: int, frames: int) -> Tensor:
    return torch.randn((1, 4, frames, 2, 3), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("streams", [2, 5])
def test_streams_in_turn_on_one_model_all_stay_warm(streams: int) -> None:
    harness = Harness()
    states = [harness.fresh] * streams
    for turn in range(4):
        for seed in range(streams):
            before = harness.host.commits
            states[seed] = harness.step(states[seed], seed=seed)
            assert harness.host.commits - before == min(turn, 1)
    alone = Harness()
    for seed, state in enumerate(states):
        assert torch.equal(alone.step(alone.fresh, 4, seed=seed).content(), state.content())


def test_branches_of_one_past_both_stay_warm() -> None:
    harness = Harness()
    trunk = harness.step(harness.fresh, 2)
    left, right = trunk, trunk
    for turn in range(4):
        before = harness.host.commits
        left, right = harness.step(left, prompt=1), harness.step(right, prompt=2)
        assert harness.host.commits - before == (1 if turn == 0 else 2)


def test_the_pool_keeps_what_there_are_bytes_for() -> None:
    sizes = Harness()
    sizes.step(sizes.step(sizes.fresh, 3))
    one = max(kv.nbytes for kv in sizes.pool.sets.values())
    harness = Harness(max_bytes=4 * one)
    states = [harness.fresh] * 6
    for _ in range(3):
        for seed in range(6):
            states[seed] = harness.step(states[seed], seed=seed)
            assert harness.pool.nbytes <= 4 * one
    newest = harness.host.commits
    harness.step(states[5], seed=5)
    assert harness.host.commits == newest + 1  # the one used last is still there


def test_guidance_in_the_middle_of_a_stream_commits_the_negative_only() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 5)
    harness.host.committed.clear()
    guided = harness.step(state, negative=7)
    # The newest chunk under both; the four before it under the negative.
    assert sorted(harness.host.committed) == [(0, 1)] + [(1,)] * 4
    assert harness.replays[-1] == 5
    harness.host.committed.clear()
    plain = harness.step(guided)
    assert harness.host.committed == [(0,)]
    cold = Harness()
    assert torch.equal(cold.step(state, negative=7).content(), guided.content())
    assert torch.equal(Harness().step(guided).content(), plain.content())


def test_what_a_replay_costs_is_said_before_it_begins() -> None:
    harness, said = Harness(), []
    state = harness.step(harness.fresh, 4)
    harness.host.on_commit = lambda: said.append(harness.replays[-1])
    harness.step(state, weights="lora")
    assert said == [4] * 4


def test_setups_and_models_do_not_share_sets() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 3)
    plain = harness.step(state)
    commits = []
    for setup in ("rope 2", "", "rope 2"):
        before = harness.host.commits
        assert torch.equal(harness.step(state, setup=setup).content(), plain.content())
        commits.append(harness.host.commits - before)
    assert commits == [3, 0, 0]


def test_a_rebuilt_set_never_stands_for_an_exact_one() -> None:
    """Two states of one stream, of which one has forgotten its beginning."""
    harness = Harness()
    full = harness.step(harness.fresh, 5)
    bounded = StreamState(
        full.latent_shape,
        full.fingerprint,
        chunk_index=5,
        history_chunks=2,
        events=tuple(
            type(e)(
                **{
                    **{f: getattr(e, f) for f in e.__dataclass_fields__},
                    **({"state": None, "content": None} if e.index < 3 else {}),
                }
            )
            for e in full.chunks
        ),
        conditionings=full.conditionings,
    )
    expected = Harness().step(full)
    harness.pool.clear()
    rebuilt = harness.step(bounded)
    assert rebuilt.last_chunk.approximate
    exact = harness.step(full)
    assert not exact.last_chunk.approximate
    assert torch.equal(exact.content(), expected.content())
    # An exact set serves the bounded state; a rebuilt one is found again by its own key.
    assert not harness.step(bounded).last_chunk.approximate
    harness.pool.clear()
    harness.step(bounded)
    before = harness.host.commits
    assert harness.step(bounded, seed=9).last_chunk.approximate
    assert harness.host.commits == before


def test_guidance_on_a_stream_that_has_forgotten_rebuilds_both() -> None:
    harness = Harness()
    state = harness.step(StreamState(harness.fresh.latent_shape, history_chunks=2), 6)
    assert not harness.step(state).last_chunk.approximate
    guided = harness.step(state, negative=3)
    assert guided.last_chunk.approximate
    assert torch.equal(guided.content(), Harness().step(state, negative=3).content())


def test_given_latents_of_either_kind_do_not_share_a_key() -> None:
    harness = Harness()
    picture = clip(1, 1)
    request = harness.request()
    keys = [
        ReplayPlan(state, request.conditions, request.config, request.model).newest.key
        for state in (
            StreamState(harness.fresh.latent_shape, events=(GivenLatentsEvent("reset", **given),))
            for given in (
                {"state": picture},
                {"content": picture},
                {"content": picture, "raw": True},
            )
        )
    ]
    assert len(set(keys)) == 3


def test_a_rewind_behind_a_reset_goes_back_to_the_start_clip() -> None:
    harness = Harness()
    state = StreamState(harness.fresh.latent_shape, history_chunks=13).start_with(clip(0, 6))
    state = harness.step(state, 2)
    after = harness.step(state.reset("all"), 1)
    back = after.rewind(1)
    assert not harness.step(back).last_chunk.approximate
    cold = Harness().step(back)
    assert not cold.last_chunk.approximate
    assert torch.equal(cold.content(), Harness().step(state).content())


def test_a_given_clip_is_forgotten_with_the_chunks_made_from_it() -> None:
    harness = Harness()
    state = StreamState(harness.fresh.latent_shape, history_chunks=2).start_with(clip(0, 6))
    kept = []
    for _ in range(4):
        state = harness.step(state)
        kept.append(state.events[0].content is not None)
    assert kept == [True, True, False, False]


class CountingLog(EventLog):
    """A log that counts how many events are looked at."""

    looked = 0

    def _item(self, position: int):  # type: ignore[no-untyped-def]
        CountingLog.looked += 1
        return super()._item(position)

    def __iter__(self):  # type: ignore[no-untyped-def]
        for position in range(len(self)):
            yield self[position]


@pytest.mark.parametrize("history_chunks", [0, 13])
def test_a_chunk_looks_at_as_many_entries_however_long_the_stream(history_chunks: int) -> None:
    looked = []
    for length in (100, 20_000):
        harness = Harness()
        first = harness.step(harness.fresh)
        (chunk,) = first.chunks
        values = {name: getattr(chunk, name) for name in chunk.__dataclass_fields__}
        forgotten = {"state": None, "content": None}
        events = CountingLog(
            ChunkEvent(
                **{
                    **values,
                    "index": i,
                    "frame": 3 * i,
                    "latents": f"{i}",
                    **(forgotten if history_chunks and i < length - history_chunks else {}),
                }
            )
            for i in range(length)
        )
        state = StreamState(
            first.latent_shape,
            first.fingerprint,
            chunk_index=length,
            events=events,
            conditionings=first.conditionings,
            history_chunks=history_chunks,
        )
        request = harness.request()
        history = ReplayPlan(state, request.conditions, request.config, request.model)
        (kv,) = warm_set(harness).values()
        harness.pool.store(history.newest.key, kv)
        CountingLog.looked = 0
        after = harness.step(state, 3)
        assert after.chunk_index == length + 3
        looked.append(CountingLog.looked)
    assert looked[0] == looked[1] < 200


def warm_set(harness: Harness) -> dict[str, KVCache]:
    """Return the one set of a stream of two chunks, out of the pool."""
    harness.step(harness.fresh, 2)
    found = dict(harness.pool.sets.items())
    harness.pool.clear()
    return found  # type: ignore[return-value]


def test_averages_and_absolute_positions_are_exact_when_rebuilt() -> None:
    for config in (StreamConfig(anchor="ema"), StreamConfig(anchor="frozen", positions="absolute")):
        warm, cold = Harness(config), Harness(config)
        state = warm.step(warm.fresh, 3, negative=2)
        expected = warm.step(state, 2, negative=2)
        assert torch.equal(cold.step(state, 2, negative=2).content(), expected.content())


NOISED = StreamConfig(commit_sigma=0.05)


def test_noise_in_a_commit_comes_out_the_same_when_it_is_replayed() -> None:
    warm, cold = Harness(NOISED), Harness(NOISED)
    state = warm.step(warm.step(warm.fresh, 2, seed=4), 2, seed=5)
    replayed = cold.step(state, seed=6)
    assert torch.equal(warm.step(state, seed=6).content(), replayed.content())
    assert cold.host.commits == 4
    clean = Harness()
    other = clean.step(clean.step(clean.fresh, 2, seed=4), 2, seed=5)
    assert torch.equal(other.content()[:, :, :3], state.content()[:, :, :3])
    assert not torch.equal(other.content()[:, :, 3:6], state.content()[:, :, 3:6])


def test_a_commit_forwards_the_share_of_noise_that_the_options_say() -> None:
    harness, seen = Harness(NOISED), []
    state = harness.step(harness.fresh, seed=4)
    commit = harness.host.commit

    def looked_at(block: LatentBlock, view: BlockAttention, sigma: float = 0.0) -> None:
        seen.append((block.video, sigma))
        commit(block, view, sigma)

    harness.host.commit = looked_at  # type: ignore[method-assign]
    harness.step(state, seed=5)
    chunk = state.chunks[0]
    clean = LatentBlock.joined(chunk.state, chunk.content)  # type: ignore[arg-type]
    noise = CommitNoise.drawn(0.05, 4, 0, clean, 1).noise.video
    ((block, sigma),) = seen
    assert sigma == 0.05
    torch.testing.assert_close(block, 0.95 * clean.video + 0.05 * noise)


def test_streams_of_other_noise_share_no_caches() -> None:
    """Equal latents under another seed have other noise in their commit."""
    harness = Harness(NOISED)
    state = harness.step(harness.fresh, seed=4)
    other = replace(state.chunks[0], seed=5)
    for config, equal in ((NOISED, False), (StreamConfig(), True)):
        events = (replace(event, config=config) for event in (state.chunks[0], other))
        marks = [EventLog([event]).mark for event in events]
        assert (marks[0] == marks[1]) == equal


def test_a_host_that_knows_no_noise_is_told_so() -> None:
    class Plain:
        def commit(self, block: LatentBlock, view: BlockAttention) -> None: ...

    with pytest.raises(ConfigError, match=r"^This host cannot commit with noise"):
        with_noise(Plain())
