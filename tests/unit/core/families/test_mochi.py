"""Mochi: learned frequencies, read off the module."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adastate_core.families.mochi import MochiFamily
from tests.support.stand_ins import stand_in

FAMILY = MochiFamily()
LEARNED = torch.randn((3, 24, 64), generator=torch.Generator().manual_seed(0))


def model() -> Any:
    return stand_in(
        "AsymmDiTJoint",
        pos_frequencies=torch.nn.Parameter(LEARNED.bfloat16()),
        in_channels=12,
        blocks=[None] * 48,
        hidden_size_x=3072,
        patch_size=2,
    )


def test_the_published_model() -> None:
    assert FAMILY.matches(model())
    assert not FAMILY.matches(stand_in("AsymmDiT"))
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("mochi", 12)
    assert (traits.layers, traits.width, traits.heads) == (48, 3072, 24)
    assert (traits.patch, traits.time_stride) == ((2, 2), 6)
    assert [call.keys for call in traits.calls.tracked] == [("video", "text")]
    assert traits.calls.per_block == 1


def test_every_head_has_the_frequencies_that_were_learned() -> None:
    traits = FAMILY.describe(model())
    assert traits.spatial_rope is not None
    rows = (traits.rope.frequencies, traits.spatial_rope.rows, traits.spatial_rope.columns)
    for axis, found in enumerate(rows):
        learned = LEARNED[axis].bfloat16().double().tolist()
        assert [list(head) for head in found] == learned
    assert traits.rope.pairing == "interleaved"


def test_places_are_stretched_over_one_area() -> None:
    rope = FAMILY.describe(model()).spatial_rope
    assert rope is not None
    assert rope.area == pytest.approx(192**2)
