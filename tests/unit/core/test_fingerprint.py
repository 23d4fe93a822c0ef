"""Fingerprints of base weights: what they tell apart, and how little they read."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from adastate_core.fingerprint import ModelFingerprint, fingerprint_model, weight_digest


def fingerprint(**weights: Tensor) -> ModelFingerprint:
    return fingerprint_model("wan", 16, "WanModel", weights)


def test_values_and_names_and_shapes_are_told_apart() -> None:
    ones = torch.ones(4, 6)
    seen = {
        fingerprint(a=ones),
        fingerprint(b=ones),
        fingerprint(a=ones.reshape(6, 4)),
        fingerprint(a=ones * 2),
        fingerprint(a=ones, b=ones),
        fingerprint(a=torch.ones(4, 6).int()),
        fingerprint(a=torch.empty(4, 6, device="meta")),
    }
    assert len(seen) == 7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_dtype_that_holds_the_values_does_not_count(dtype: torch.dtype) -> None:
    values = torch.arange(64.0).reshape(8, 8)
    assert weight_digest(values.to(dtype)) == weight_digest(values)
    assert weight_digest(values.to(torch.float8_e5m2)) == weight_digest(
        values.to(torch.float8_e5m2).to(dtype)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_the_order_in_memory_does_not_count(dtype: torch.dtype) -> None:
    weight = torch.randn((300, 200), generator=torch.Generator().manual_seed(1)).to(dtype)
    turned = weight.view(torch.uint8) if dtype.itemsize == 1 else weight
    turned = turned.T.contiguous().T
    turned = turned.view(dtype)
    assert not turned.is_contiguous()
    assert weight_digest(turned) == weight_digest(weight)


def test_a_change_all_over_a_large_weight_is_seen() -> None:
    weight = torch.randn((1024, 1024), generator=torch.Generator().manual_seed(1))
    sparse = torch.zeros_like(weight)
    sparse[::7, ::3] = 1e-2
    assert weight_digest(weight + sparse) != weight_digest(weight)


def test_ends_of_a_large_weight_are_read() -> None:
    for place in ((0, 0), (-1, -1)):
        weight = torch.zeros(1024, 1024)
        weight[place] = 1.0
        assert weight_digest(weight) != weight_digest(torch.zeros(1024, 1024))


def test_only_a_sample_is_read() -> None:
    # A petabyte, if it were read.
    weight = torch.zeros(1, 1).expand(2**25, 2**25)
    other = torch.ones(1, 1).expand(2**25, 2**25)
    assert weight_digest(weight) != weight_digest(other)


class Bytes(torch.Tensor):
    """Bytes under another shape, as loaders of packed weights have them."""

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return torch.Size((1, 1))


def test_packed_bytes_are_read_as_they_are_stored() -> None:
    one, other = (torch.full((64,), value, dtype=torch.uint8) for value in (1, 2))
    assert weight_digest(one.as_subclass(Bytes)) == weight_digest(one)
    assert weight_digest(one.as_subclass(Bytes)) != weight_digest(other.as_subclass(Bytes))
    assert weight_digest(torch.nn.Parameter(one, requires_grad=False)) == weight_digest(one)


def test_fingerprints_match_by_the_newest_digest_that_both_have() -> None:
    old, other_old, new, other_new = (
        hashlib.sha256(text).hexdigest()[:32] for text in (b"1", b"2", b"3", b"4")
    )
    legacy, other_legacy = (ModelFingerprint("wan", 16, text) for text in (old, other_old))
    both, bare, other = (
        ModelFingerprint.joined("wan", 16, *digests)
        for digests in ((new, old), (new,), (other_new, old))
    )
    assert both.matches(legacy)
    assert legacy.matches(both)
    assert both.matches(bare)
    assert not both.matches(other)  # norms are the same, other weights are not
    assert not bare.matches(legacy)
    assert not both.matches(other_legacy)
    assert not legacy.matches(other_legacy)
    assert not legacy.matches(ModelFingerprint("ltxv", 16, old))
