"""Turning keys and queries: only what moves is touched, and it composes."""

from __future__ import annotations

import pytest
import torch

from adastate_core.attention.rope import Pairing, TemporalRope

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
