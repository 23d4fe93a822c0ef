"""Digests of tensors and of texts, which files and cache keys hold on to."""

from __future__ import annotations

import hashlib

import pytest
import torch

from adastate_core.digest import tensor_digest, text_digest

X = torch.arange(6.0).reshape(2, 3)


def test_the_recipe_is_dtype_shape_and_bytes() -> None:
    """Files of every version have these digests: the recipe must not change."""
    expected = hashlib.sha256(b"torch.float32(2, 3)" + X.numpy().tobytes()).hexdigest()
    assert tensor_digest(X) == expected
    assert text_digest("abc") == hashlib.sha256(b"abc").hexdigest()


def test_how_a_tensor_lies_in_memory_does_not_matter() -> None:
    wide = torch.stack((X, X + 1), dim=-1)[..., 0]
    assert not wide.is_contiguous()
    assert tensor_digest(wide) == tensor_digest(X)
    assert tensor_digest(X.T.contiguous().T) == tensor_digest(X)
    assert tensor_digest(X.clone().requires_grad_()) == tensor_digest(X)


@pytest.mark.parametrize("other", [X.T, X.reshape(6), X.double(), X.to(torch.int32), -X, X[:1]])
def test_other_tensors_have_other_digests(other: torch.Tensor) -> None:
    assert tensor_digest(other) != tensor_digest(X)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.int64])
def test_every_dtype_has_one(dtype: torch.dtype) -> None:
    assert tensor_digest(X.to(dtype)) != tensor_digest(X)
    assert len(tensor_digest(X.to(dtype))) == 64


def test_nothing_and_a_single_number_have_one() -> None:
    found = {tensor_digest(x) for x in (torch.zeros(0), torch.zeros(0, 3), torch.tensor(0.0))}
    assert len(found) == 3


def test_texts_are_read_as_utf_8() -> None:
    assert text_digest("\u6c34") == hashlib.sha256("\u6c34".encode()).hexdigest()
