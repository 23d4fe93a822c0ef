"""The KV cache of one stream, and the pool that keeps the newest of several."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adastate_core.attention.kv_cache import KVCache, KVCachePool, KVEntry, select_frames
from adastate_core.attention.kv_format import KVFormat
from adastate_core.errors import LayoutError
from adastate_core.layout import CachedFrames, CommitPlan, FrameMix, FrameRef

TOKENS, HEADS, CHANNELS = 2, 3, 4


def frames(*numbers: float) -> Tensor:
    """Return (1, frames x tokens, heads, channels) whose frames are told apart by their number."""
    rows = torch.tensor(numbers).repeat_interleave(TOKENS)
    return rows[None, :, None, None].expand(1, -1, HEADS, CHANNELS).clone()


def numbers(x: Tensor) -> list[float]:
    """Undo `frames`."""
    assert torch.equal(x, frames(*x[0, ::TOKENS, 0, 0].tolist()))
    return x[0, ::TOKENS, 0, 0].tolist()


def cache_of(*window: float, layers: int = 2, anchor: tuple[float, ...] = ()) -> KVCache:
    cache = KVCache(CachedFrames(anchor, window, len(window)))
    for layer in range(layers):
        held = frames(*anchor, *window)
        cache.put(KVEntry(layer), held + 100 * layer, -held, TOKENS)
    return cache


def test_what_is_put_is_got_layer_by_layer() -> None:
    cache = cache_of(1.0, 2.0)
    for layer in range(2):
        keys, values = cache.get(KVEntry(layer))
        assert numbers(keys) == [1.0 + 100 * layer, 2.0 + 100 * layer]
        assert numbers(values) == [-1.0, -2.0]


def test_an_empty_cache_has_no_frames_and_no_bytes() -> None:
    cache = KVCache.empty()
    assert cache.cached == CachedFrames()
    assert cache.nbytes == 0
    assert not cache.approximate


def test_bytes_are_those_of_keys_and_values() -> None:
    assert cache_of(1.0, 2.0, layers=3).nbytes == 3 * 2 * frames(1.0, 2.0).numel() * 4


def test_a_layer_is_put_once() -> None:
    cache = cache_of(1.0)
    with pytest.raises(LayoutError, match=r"^Layer 1 of the model ran twice") as error:
        cache.put(KVEntry(1), frames(9.0), frames(9.0), TOKENS)
    assert error.value.what == "commit pass"
    assert numbers(cache.get(KVEntry(1))[0]) == [101.0]


def test_a_layer_that_was_not_put_is_named() -> None:
    with pytest.raises(LayoutError, match=r"^Layer 2 of the model was not run"):
        cache_of(1.0).get(KVEntry(2))


def test_what_is_kept_is_named_and_asks_for_no_gradient() -> None:
    cache = cache_of(1.0, layers=1)
    assert {k for k, _ in cache.named_parameters()} == {
        "keys_of.0-self-video.x",
        "values_of.0-self-video.x",
    }
    assert not any(p.requires_grad for p in cache.parameters())
    assert cache.half().get(KVEntry(0))[0].dtype == torch.float16


@pytest.mark.parametrize(
    ("anchor", "window", "kept"),
    [
        ((7.0,), (2.0, 3.0), [7.0, 2.0, 3.0]),
        ((7.0,), (), [7.0]),
        ((), (3.0,), [3.0]),
        ((7.0,), (1.0, 2.0, 3.0), [7.0, 1.0, 2.0, 3.0]),
        ((), (), []),
    ],
)
def test_a_smaller_cache_takes_slot_0_and_the_newest_frames(
    anchor: tuple[float, ...], window: tuple[float, ...], kept: list[float]
) -> None:
    cache = cache_of(1.0, 2.0, 3.0, anchor=(7.0,))
    smaller = KVCache(CachedFrames(anchor, window, 3))
    cache.copy_frames(smaller)
    for layer in range(2):
        keys, values = smaller.get(KVEntry(layer))
        assert numbers(keys - 100 * layer) == kept
        assert numbers(-values) == kept


def test_a_copy_leaves_the_larger_cache_as_it_was() -> None:
    cache = cache_of(1.0, 2.0, anchor=(7.0,))
    before = {name: value.clone() for name, value in cache.state_dict().items()}
    smaller = KVCache(CachedFrames((7.0,), (2.0,), 2))
    cache.copy_frames(smaller)
    smaller.get(KVEntry(0))[0].zero_()
    after = cache.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert cache.cached.frames == 3


def test_a_copy_is_kept_in_the_form_of_its_cache() -> None:
    smaller = KVCache(CachedFrames((), (2.0,), 2), KVFormat("fp8"))
    cache_of(1.0, 2.0).copy_frames(smaller)
    assert {p.dtype for p in smaller.parameters()} == {torch.float8_e4m3fn, torch.float32}
    assert numbers(smaller.get(KVEntry(0))[0]) == [2.0]


def pool_of(*lines: str, max_bytes: int | None = None) -> KVCachePool:
    """Return a pool with a line of caches for each text, of a cache for each letter."""
    pool = KVCachePool(max_bytes)
    for line in lines:
        for parent, key in zip([None, *line], line, strict=False):
            pool.store(key, cache_of(1.0, layers=1), parent)
    return pool


ONE = cache_of(1.0, layers=1).nbytes


def test_a_pool_finds_what_was_stored() -> None:
    pool = KVCachePool()
    cache = cache_of(1.0)
    pool.store("a", cache)
    assert pool.find("a") is cache
    assert pool.find("b") is None
    assert list(pool.caches()) == [cache]
    assert pool.nbytes == cache.nbytes


def test_a_line_keeps_its_newest_two() -> None:
    assert list(pool_of("abcd").sets) == ["c", "d"]
    assert list(pool_of("abcd", "xyz").sets) == ["c", "d", "y", "z"]


def test_a_branch_is_a_line_of_its_own() -> None:
    pool = pool_of("abc")
    pool.store("x", cache_of(1.0, layers=1), "b")  # not the newest of its line
    pool.store("y", cache_of(1.0, layers=1), "x")
    assert list(pool.sets) == ["b", "c", "x", "y"]
    pool.store("z", cache_of(1.0, layers=1), "y")
    assert list(pool.sets) == ["b", "c", "y", "z"]


def test_a_line_spares_what_the_running_step_began_from() -> None:
    pool = pool_of("ab")
    for parent, key in (("b", "c"), ("c", "d"), ("d", "e")):
        pool.store(key, cache_of(1.0, layers=1), parent, keep={"b"})
    assert list(pool.sets) == ["b", "e"]


def test_storing_a_key_again_replaces_its_cache() -> None:
    pool = pool_of("ab")
    again = cache_of(5.0)
    pool.store("b", again, "a")
    assert list(pool.sets) == ["a", "b"]
    assert pool.find("b") is again


def test_the_least_recently_used_goes_first() -> None:
    pool = pool_of("a", "b", "c", max_bytes=3 * ONE)
    pool.find("a")
    pool.store("d", cache_of(1.0, layers=1))
    assert list(pool.sets) == ["c", "a", "d"]
    assert pool.nbytes == 3 * ONE


def test_what_was_just_stored_stays_beyond_the_cap() -> None:
    pool = pool_of("a", max_bytes=ONE // 2)
    assert list(pool.sets) == ["a"]
    pool.store("b", cache_of(1.0, layers=1))
    assert list(pool.sets) == ["b"]
    pool.store("c", cache_of(1.0, layers=1), keep={"b"})
    assert list(pool.sets) == ["b", "c"]


def test_without_a_cap_nothing_but_lines_is_bounded() -> None:
    assert len(pool_of(*"abcdefgh").sets) == 8


def test_a_cache_to_come_makes_the_older_of_its_line_superfluous() -> None:
    pool = pool_of("ab", "xy")
    pool.evict_for("b")
    assert list(pool.sets) == ["b", "x", "y"]
    pool = pool_of("ab", "xy")
    pool.evict_for("b", keep={"a"})
    assert list(pool.sets) == ["a", "b", "x", "y"]
    pool.evict_for("a")  # a branch to come takes nothing from the line that it leaves
    assert list(pool.sets) == ["a", "b", "x", "y"]


def test_bytes_are_freed_for_a_cache_to_come() -> None:
    pool = pool_of("a", "b", "c", max_bytes=3 * ONE)
    pool.evict_for("c")  # as large as the one it is made from
    assert list(pool.sets) == ["b", "c"]
    pool.evict_for("c", keep={"b"})
    assert list(pool.sets) == ["b", "c"]


def test_a_cache_that_was_evicted_ends_no_line() -> None:
    pool = pool_of("ab")
    pool.evict("b")
    pool.store("c", cache_of(1.0, layers=1), "a")
    pool.store("d", cache_of(1.0, layers=1), "c")
    assert list(pool.sets) == ["c", "d"]
    with pytest.raises(KeyError):
        pool.evict("b")


def test_a_cleared_pool_begins_anew() -> None:
    pool = pool_of("ab", "xy")
    pool.clear()
    assert pool.nbytes == 0
    assert pool.find("b") is None
    pool.store("c", cache_of(1.0, layers=1), "b")
    assert list(pool.sets) == ["c"]


def gathered(plan: CommitPlan) -> Tensor:
    past = {"anchor": 10.0, "window": 20.0, "state": 30.0, "content": 40.0}

    def locate(ref: FrameRef, at: FrameRef) -> Tensor:
        # The place in time that a frame is rotated to is told by the decimals.
        return frames(past[ref.source] + ref.position + at.position / 8)

    return select_frames(plan, locate, lambda x: x + 1000, frames(1.0).half()[:, :0])


def test_frames_of_a_plan_are_gathered_in_order() -> None:
    plan = CommitPlan((FrameRef("state", 0),), (FrameRef("window", 2), FrameRef("content", 1)))
    assert numbers(gathered(plan)) == [30.0, 22.25, 41.125]


def test_an_average_takes_the_place_of_its_first_frame() -> None:
    terms = ((FrameRef("anchor", 0), 0.75), (FrameRef("window", 2), 0.25))
    assert numbers(gathered(CommitPlan((FrameMix(terms),), ()))) == [0.75 * 10 + 0.25 * 22]
    pooled = FrameMix(terms, pooled=True)
    assert numbers(gathered(CommitPlan((pooled,), ()))) == [0.75 * 10 + 0.25 * 22 + 1000]


def test_averages_are_float32_and_what_is_kept_stays_as_it_is() -> None:
    def locate(ref: FrameRef, at: FrameRef) -> Tensor:
        return frames(1.0).bfloat16()

    first = FrameRef("anchor", 0)
    for kept, dtype in ((first, torch.bfloat16), (FrameMix(((first, 0.999),)), torch.float32)):
        made = select_frames(CommitPlan((kept,), ()), locate, lambda x: x, frames(1.0)[:, :0])
        assert made.dtype == dtype
    assert float(made[0, 0, 0, 0]) == pytest.approx(0.999, abs=1e-6)


def test_what_a_commit_gathers_can_be_moved_later() -> None:
    """A host moves tensors outside inference mode, although commits run inside it."""
    with torch.inference_mode():
        kept = gathered(CommitPlan((FrameRef("state", 0),), ()))
        nothing = gathered(CommitPlan((), ()))
        smaller = KVCache(CachedFrames((), (2.0,), 2))
        cache_of(1.0, 2.0).copy_frames(smaller)
    assert not any(x.is_inference() for x in (kept, nothing, *smaller.parameters()))


def test_a_plan_of_nothing_keeps_nothing() -> None:
    empty = gathered(CommitPlan((), ()))
    assert empty.shape == (1, 0, HEADS, CHANNELS)
    assert empty.dtype == torch.float16
