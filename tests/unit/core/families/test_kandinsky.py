"""Kandinsky 5: sizes and frequencies as published, and the image model that is refused."""

from __future__ import annotations

from typing import Any

import pytest

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families.kandinsky import Kandinsky5Family
from tests.support.stand_ins import attributes, stand_in

FAMILY = Kandinsky5Family()


def model(**changes: object) -> Any:
    """Return the sizes of Kandinsky 5 Lite."""
    published = {
        "in_visual_dim": 16,
        "visual_embed_dim": 4 * 33,
        "model_dim": 1792,
        "patch_size": (1, 2, 2),
        "visual_transformer_blocks": [None] * 32,
        "rope_embedder_3d": attributes(theta=10000.0, axes_dim=(16, 24, 24)),
        "rope_scale_factor": (1.0, 2.0, 4.0),
    }
    return stand_in("Kandinsky5", **{**published, **changes})


def test_the_published_model() -> None:
    assert FAMILY.matches(model())
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("kandinsky5", 16)
    assert (traits.layers, traits.width, traits.heads) == (32, 1792, 28)
    assert (traits.patch, traits.time_stride) == ((2, 2), 4)
    assert [call.keys for call in traits.calls.tracked] == [("video",)]
    assert not traits.can_shift
    assert not traits.needs_image


def test_spatial_frequencies_are_scaled_and_temporal_ones_are_not() -> None:
    traits = FAMILY.describe(model())
    assert traits.rope.frequencies[0] == pytest.approx([10000.0 ** (-i / 8) for i in range(8)])
    assert traits.spatial_rope is not None
    across = [10000.0 ** (-i / 12) for i in range(12)]
    assert traits.spatial_rope.rows[0][8:20] == pytest.approx([f / 2 for f in across])
    assert traits.spatial_rope.columns[0][20:] == pytest.approx([f / 4 for f in across])


def test_the_largest_model_has_no_known_places() -> None:
    """Its scale changes with the size of the image."""
    assert FAMILY.describe(model(model_dim=4096)).spatial_rope is None


def test_the_image_model_is_refused() -> None:
    with pytest.raises(UnsupportedFamilyError, match="it makes single images"):
        FAMILY.matches(model(visual_embed_dim=4 * 16))


def test_others_are_none_of_them() -> None:
    assert not FAMILY.matches(stand_in("Kandinsky4"))
