"""PlainKV keys and values: how much room they take, and what rounding them does to a stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adastate_core.attention.kv_format import PLAIN, Fp8KV, KVFormat
from adastate_core.config import Precision, StreamConfig
from adastate_core.errors import ConfigError
from tests.support.reference_host import Harness

FP8 = StreamConfig(cache_precision="fp8")
CPU = torch.device("cpu")


def keys(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    x = torch.randn((2, 3 * 6, 4, 32), generator=source)
    # Heads and frames of very different size, as trained models have them.
    x = x * torch.tensor([1e-3, 1.0, 30.0, 4000.0])[:, None]
    return (x * torch.arange(1, 4).repeat_interleave(6)[:, None, None]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fp8_is_near_in_every_head_and_frame(dtype: torch.dtype) -> None:
    x = keys(dtype)
    packed = Fp8KV(x, 6)
    back = packed.decode()
    assert back.dtype == dtype
    error = (back.float() - x.float()).unflatten(1, (3, 6)).square().mean(dim=(2, 4)).sqrt()
    size = x.float().unflatten(1, (3, 6)).square().mean(dim=(2, 4)).sqrt()
    # Three bits of mantissa: at most half of 2^-3 wrong, a quarter of that on average.
    assert (error / size).max() < 2**-5
    taken = sum(p.numel() * p.element_size() for p in packed.parameters())
    assert taken < 1.1 * x.numel()


def test_packing_again_changes_nothing() -> None:
    once = Fp8KV(keys(), 6).decode()
    assert torch.equal(Fp8KV(once, 6).decode(), once)
    # Nor do other frames beside it, which a window brings.
    joined = torch.cat((once[:, 6:], 100 * keys()[:, :6]), dim=1)
    assert torch.equal(Fp8KV(joined, 6).decode()[:, :12], once[:, 6:])


def test_nothing_packs_to_nothing() -> None:
    empty = keys()[:, :0]
    assert Fp8KV(empty, 6).decode().shape == empty.shape


def test_a_cache_kept_elsewhere_changes_nothing() -> None:
    plain = Harness()
    apart = Harness(kv_format=KVFormat(device=CPU))
    expected = plain.step(plain.fresh, 6).content()
    assert torch.equal(apart.step(apart.fresh, 6).content(), expected)
    assert apart.pool.kv_format.reads_per_layer
    assert not PLAIN.reads_per_layer


def test_fp8_keeps_the_stream_near_and_takes_a_quarter_of_float32() -> None:
    plain = Harness()
    packed = Harness(FP8, kv_format=KVFormat("fp8"))
    expected = plain.step(plain.fresh, 6).content()
    found = packed.step(packed.fresh, 6).content()
    assert expected is not None
    assert found is not None
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.05
    assert packed.pool.nbytes < 0.3 * plain.pool.nbytes


def test_a_replay_of_an_fp8_stream_is_the_same_to_the_last_bit() -> None:
    harness = Harness(FP8, kv_format=KVFormat("fp8"))
    begun = harness.step(harness.fresh, 5)
    warm = harness.step(begun)
    harness.pool.clear()
    assert torch.equal(harness.step(begun).newest_content(), warm.newest_content())


def test_going_on_in_another_precision_is_noted() -> None:
    packed = Harness(FP8, kv_format=KVFormat("fp8"))
    begun = packed.step(packed.fresh, 3)
    assert not begun.chunks[-1].approximate
    plain = Harness()
    assert plain.step(begun).chunks[-1].approximate


def test_averages_are_not_kept_in_fp8() -> None:
    for anchor in ("ema", "dual_ema"):
        with pytest.raises(ConfigError, match="cache_precision"):
            replace(FP8, anchor=anchor)  # type: ignore[arg-type]


def test_no_more_sets_than_planned_exist_at_once() -> None:
    """While a commit writes, the pool has the set it reads and the one the run began from."""
    harness, held = Harness(), []
    begun = harness.step(harness.fresh, 4)
    harness.host.on_commit = lambda: held.append(len(harness.pool.sets))
    after = harness.step(begun, 4)
    assert max(held) == 2
    held.clear()
    harness.step(after)
    assert held == [1]


def test_memory_that_cannot_be_page_locked_is_plain() -> None:
    """No card, no page-locked memory: what is kept elsewhere is kept all the same."""
    away = torch.device("meta")
    for precision in ("model", "fp8"):
        kept = KVFormat(precision, away, pinned=True).encode(keys(), 6)  # type: ignore[arg-type]
        assert {p.device for p in kept.parameters()} == {away}
        assert kept.parts()[0].shape[:3] == (2, 3, 6)


@pytest.mark.parametrize("precision", ["model", "fp8"])
def test_what_is_written_is_what_decodes(precision: Precision) -> None:
    encoded = KVFormat(precision).encode(keys(torch.bfloat16), 6)
    out = torch.full((2, 3, 6, 4, 32), torch.nan, dtype=torch.bfloat16)
    encoded.write(encoded.parts(), out)
    assert torch.equal(out.flatten(1, 2), encoded.decode())
