"""Cosmos Predict2: sizes and frequencies as published, and the models that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families.cosmos import CosmosPredict2Family
from tests.support.stand_ins import attributes, stand_in

FAMILY = CosmosPredict2Family()


def model(name: str = "MiniTrainDIT", **changes: object) -> Any:
    """Return the sizes of Cosmos Predict2 2B."""
    place = attributes(t_ntk_factor=2.0, h_ntk_factor=4.0, w_ntk_factor=3.0, base_fps=24)
    published = {
        "model_channels": 2048,
        "num_heads": 16,
        "num_blocks": 28,
        "patch_spatial": 2,
        "in_channels": 16,
        "out_channels": 16,
        "extra_per_block_abs_pos_emb": False,
        "pos_embedder": place,
    }
    return stand_in(name, **{**published, **changes})


def test_the_published_model() -> None:
    assert FAMILY.matches(model())
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("cosmos-predict2", 16)
    assert (traits.layers, traits.width, traits.heads) == (28, 2048, 16)
    assert (traits.patch, traits.time_stride) == ((2, 2), 4)
    assert [call.keys for call in traits.calls.tracked] == [("video",)]
    assert traits.frame_rate == 24.0
    assert traits.fills_up
    assert not traits.can_shift


def test_pairs_lie_in_halves_and_turn_by_scaled_frequencies() -> None:
    traits = FAMILY.describe(model())
    assert traits.rope.pairing == "half"
    # 128 channels a head: 42 each for height and width, 44 for time.
    (time,) = traits.rope.frequencies
    assert time == pytest.approx([20000.0 ** (-i / 22) for i in range(22)])
    assert traits.spatial_rope is not None
    assert traits.spatial_rope.pairing == "half"
    assert traits.spatial_rope.rows[0][22:43] == pytest.approx(
        [40000.0 ** (-i / 21) for i in range(21)]
    )
    assert traits.spatial_rope.columns[0][43:] == pytest.approx(
        [30000.0 ** (-i / 21) for i in range(21)]
    )


def test_blocks_have_no_type_and_two_calls() -> None:
    calls = FAMILY.describe(model()).calls
    assert (calls.blocks, calls.per_block) == (((None, 0),), 2)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (stand_in("GeneralDIT"), "Cosmos 1 adds absolute positions"),
        (model(extra_per_block_abs_pos_emb=True), "it adds absolute positions"),
        (model(in_channels=17), "image-to-video weights expect a mask"),
    ],
)
def test_what_cannot_be_streamed_is_refused(refused: object, reason: str) -> None:
    with pytest.raises(UnsupportedFamilyError, match=reason):
        FAMILY.matches(refused)


def test_others_are_none_of_them() -> None:
    assert not FAMILY.matches(stand_in("MiniTrainDITOfAnother"))
