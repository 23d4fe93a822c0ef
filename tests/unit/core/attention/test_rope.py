"""Turning keys and queries: only what moves is touched, and it composes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adastate_core.attention.rope import (
    Pairing,
    SpatialRope,
    TemporalRope,
    rope_frequencies,
    spatial_frequencies,
)

TOKENS = 6


@pytest.mark.parametrize("pairing", ["interleaved", "half"])
@pytest.mark.parametrize(
    "offsets", [(0, 0, 0, 0), (-3, 0, 0, 0), (0, 2, 2, 0), (1, 0, -1, 0), (4, 4, 4, 4)]
)
def test_every_frame_turns_as_if_it_was_alone(pairing: Pairing, offsets: tuple[float, ...]) -> None:
    rope = TemporalRope(((1.0, 0.1, 0.01),), pairing)
    x = torch.randn((2, 4 * TOKENS, 3, 16), generator=torch.Generator().manual_seed(0))
    turned = rope.rotate(x, offsets)
    alone = [
        rope.rotate(frame, (delta,))
        for frame, delta in zip(x.split(TOKENS, dim=1), offsets, strict=True)
    ]
    assert torch.equal(turned, torch.cat(alone, dim=1))
    back = rope.rotate(turned, tuple(-delta for delta in offsets))
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)
    moved = (turned != x).unflatten(1, (4, TOKENS)).any(dim=(0, 2, 3, 4))
    assert moved.tolist() == [delta != 0 for delta in offsets]
    assert (turned is x) == (not any(offsets))


def test_a_rotation_is_one_of_complex_numbers() -> None:
    speeds = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    x = torch.randn((1, 2 * TOKENS, 2, 8), generator=torch.Generator().manual_seed(0))
    interleaved = TemporalRope((tuple(speeds.tolist()),)).rotate(x, (5.0, -2.5))
    pairs = torch.view_as_complex(x[..., :6].double().unflatten(-1, (3, 2)).contiguous())
    angles = torch.tensor([5.0, -2.5]).repeat_interleave(TOKENS)[:, None, None] * speeds
    expected = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles))
    torch.testing.assert_close(
        interleaved[..., :6], expected.flatten(-2).float(), atol=1e-5, rtol=0
    )
    assert torch.equal(interleaved[..., 6:], x[..., 6:])
    # In halves the same pairs lie apart: channel i and i + D / 2.
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    half = TemporalRope((tuple(speeds.tolist()),), "half").rotate(x[..., order], (5.0, -2.5))
    assert torch.equal(half, interleaved[..., order])


def test_heads_may_have_frequencies_of_their_own() -> None:
    x = torch.randn((1, TOKENS, 2, 4), generator=torch.Generator().manual_seed(0))
    both = TemporalRope(((1.0, 0.5), (0.2, 0.0))).rotate(x, (3.0,))
    for head, frequencies in enumerate([(1.0, 0.5), (0.2, 0.0)]):
        alone = TemporalRope((frequencies,)).rotate(x[:, :, head : head + 1], (3.0,))
        assert torch.equal(both[:, :, head : head + 1], alone)


def test_short_dtypes_are_kept_and_rotated_in_float32() -> None:
    x = torch.randn((1, TOKENS, 1, 4), generator=torch.Generator().manual_seed(0)).bfloat16()
    rope = TemporalRope(((1.0, 0.5),))
    turned = rope.rotate(x, (1000.25,))
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, rope.rotate(x.float(), (1000.25,)).bfloat16())


SPACE = SpatialRope(*spatial_frequencies(1, (0.7,), (0.3, 0.2)))


def test_pairs_lie_as_time_then_height_then_width() -> None:
    assert SPACE.rows == ((0.0, 0.7, 0.0, 0.0),)
    assert SPACE.columns == ((0.0, 0.0, 0.3, 0.2),)


def test_every_token_is_rotated_by_its_row_and_column() -> None:
    x = torch.randn((1, 1, 1, 8), generator=torch.Generator().manual_seed(0)).expand(1, 6, 1, 8)
    moved = SPACE.rotate(x, 3)
    for token in range(6):
        row, column = divmod(token, 3)
        angles = (0.0, 0.7 * row, 0.3 * column, 0.2 * column)
        alone = TemporalRope((angles,)).rotate(x[:, :1], (1.0,))
        torch.testing.assert_close(moved[:, token : token + 1], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(SPACE.rotate(moved, 3, inverse=True), x, atol=1e-6, rtol=0)


def test_places_are_stretched_over_the_area_of_the_model() -> None:
    """Four times as many tokens are half as far apart."""
    x = torch.randn((1, 4, 1, 8), generator=torch.Generator().manual_seed(0))
    stretched = replace(SPACE, area=16.0).rotate(x, 2)
    twice = SpatialRope(
        *(tuple(tuple(2 * f for f in row) for row in axis) for axis in (SPACE.rows, SPACE.columns))
    )
    torch.testing.assert_close(stretched, twice.rotate(x, 2), atol=1e-6, rtol=0)
    assert torch.equal(replace(SPACE, area=4.0).rotate(x, 2), SPACE.rotate(x, 2))


def test_frequencies_fall_from_1() -> None:
    assert rope_frequencies(4, 10000.0) == pytest.approx((1.0, 0.1, 0.01, 0.001))
