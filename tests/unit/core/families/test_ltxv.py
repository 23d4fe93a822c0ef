"""LTX-Video: positions in seconds, pairs over all heads together, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from adastate_core.attention.rope import Frequencies
from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families.ltxv import LtxVideoFamily
from tests.support.stand_ins import attributes, stand_in

FAMILY = LtxVideoFamily()


def model(**changes: object) -> Any:
    """Return the sizes of LTX-Video 2B."""
    published = {
        "split_positional_embedding": attributes(value="interleaved"),
        "positional_embedding_max_pos": [20, 2048, 2048],
        "in_channels": 128,
        "transformer_blocks": [None] * 28,
        "inner_dim": 2048,
        "num_attention_heads": 32,
        "causal_temporal_positioning": True,
        "use_middle_indices_grid": False,
    }
    return stand_in("LTXVModel", **{**published, **changes})


def test_the_published_model() -> None:
    assert FAMILY.matches(model())
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("ltxv", 128)
    assert (traits.layers, traits.width, traits.heads) == (28, 2048, 32)
    assert (traits.patch, traits.time_stride, traits.frame_rate) == ((1, 1), 8, 25.0)
    assert traits.calls.per_block == 2


def published_angles(seconds: float, row: float, column: float) -> torch.Tensor:
    """Return the angles of all pairs of a token as the published code has them."""
    grid = torch.tensor([seconds / 20, row * 32 / 2048, column * 32 / 2048], dtype=torch.float64)
    steps = torch.linspace(0.0, 1.0, 2048 // 6, dtype=torch.float64)
    indices = 10000.0**steps * math.pi / 2
    angles = (indices * (grid[:, None] * 2 - 1)).transpose(0, 1).flatten()
    return torch.cat((torch.zeros(2048 % 6 // 2, dtype=torch.float64), angles))


@pytest.mark.parametrize("axis", range(3))
def test_frequencies_are_differences_of_the_published_angles(axis: int) -> None:
    traits = FAMILY.describe(model())
    assert traits.spatial_rope is not None
    rows: tuple[Frequencies, ...] = (
        traits.rope.frequencies,
        traits.spatial_rope.rows,
        traits.spatial_rope.columns,
    )
    assert [len(head) for head in rows[axis]] == [32] * 32
    there = [0.0, 0.0, 0.0]
    there[axis] = 8 / 25 if axis == 0 else 1.0  # one latent frame, one token
    steps = published_angles(*there) - published_angles(0.0, 0.0, 0.0)
    found = torch.tensor(rows[axis], dtype=torch.float64).flatten()
    torch.testing.assert_close(found, steps, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("causal", "middle", "first"), [(True, False, 7 / 8), (True, True, 7 / 16), (False, False, 0.0)]
)
def test_where_the_first_frame_stands(causal: bool, middle: bool, first: float) -> None:
    changes = {"causal_temporal_positioning": causal, "use_middle_indices_grid": middle}
    assert FAMILY.describe(model(**changes)).first_index == first
    if not causal:
        return
    # Frame t begins at video frame max(8 t - 7, 0) and ends at 8 t + 1, in steps of 8 from frame 1.
    begins = [max(8 * t - 7, 0) for t in range(3)]
    ends = [8 * t + 1 for t in range(3)]
    places = [(a + b) / 2 if middle else a for a, b in zip(begins, ends, strict=True)]
    assert (places[1] - places[0]) / 8 == pytest.approx(1 - first)
    assert (places[2] - places[1]) / 8 == 1


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (model(split_positional_embedding=attributes(value="split")), "pairs are in halves"),
    ],
)
def test_what_cannot_be_streamed_is_refused(refused: object, reason: str) -> None:
    with pytest.raises(UnsupportedFamilyError, match=reason):
        FAMILY.matches(refused)


def test_others_are_none_of_them() -> None:
    assert not FAMILY.matches(stand_in("LTXVModelOfAnother"))
    assert FAMILY.matches(model(split_positional_embedding=None))  # before the host knew two
