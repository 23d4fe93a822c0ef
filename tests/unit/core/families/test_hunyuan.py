"""HunyuanVideo: sizes and frequencies as published, and the models that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from adastate_core.attention.layers import LayerCounter
from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families.hunyuan import HunyuanVideoFamily
from tests.support.stand_ins import attributes, stand_in

FAMILY = HunyuanVideoFamily()


def model(**changes: object) -> Any:
    """Return the sizes of HunyuanVideo."""
    published = {
        "patch_size": [1, 2, 2],
        "in_channels": 16,
        "out_channels": 16,
        "hidden_size": 3072,
        "num_heads": 24,
        "params": attributes(theta=256, axes_dim=[16, 56, 56]),
        "double_blocks": [None] * 20,
        "single_blocks": [None] * 40,
    }
    return stand_in("HunyuanVideo", **{**published, **changes})


def test_the_published_model() -> None:
    assert FAMILY.matches(model())
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("hunyuan-video", 16)
    assert (traits.layers, traits.width, traits.heads) == (60, 3072, 24)
    assert (traits.patch, traits.time_stride) == ((2, 2), 4)
    assert [call.keys for call in traits.calls.tracked] == [("text", "video")]
    assert not traits.can_shift
    assert not traits.takes(3, 4)


def test_frequencies_have_the_base_of_the_model() -> None:
    traits = FAMILY.describe(model())
    assert traits.rope.frequencies[0] == pytest.approx([256.0 ** (-i / 8) for i in range(8)])
    assert traits.spatial_rope is not None
    across = [256.0 ** (-i / 28) for i in range(28)]
    assert traits.spatial_rope.rows[0][8:36] == pytest.approx(across)
    assert traits.spatial_rope.columns[0][36:] == pytest.approx(across)


def test_single_blocks_are_layers_behind_the_double_ones() -> None:
    counter = LayerCounter(FAMILY.describe(model()).calls)
    places = [counter.place(b) for b in (("double", 19), ("single", 0), ("single", 39))]
    assert [place and place.layer for place in places] == [19, 20, 59]


def test_version_1_5_takes_an_image_and_a_mask() -> None:
    image = model(in_channels=65, out_channels=32)
    assert FAMILY.matches(image)
    traits = FAMILY.describe(image)
    assert traits.latent_channels == 32
    assert not traits.needs_image  # it was trained without one as well


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (model(patch_size=[2, 2]), "it makes single images"),
        (model(in_channels=32), "its input has 16 channels besides the video"),
    ],
)
def test_what_cannot_be_streamed_is_refused(refused: object, reason: str) -> None:
    with pytest.raises(UnsupportedFamilyError, match=reason):
        FAMILY.matches(refused)


def test_others_are_none_of_them() -> None:
    assert not FAMILY.matches(stand_in("HunyuanVideoOfAnother"))
