"""Wan models: sizes and frequencies as published, and the variants that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families.wan import WanFamily
from tests.support.stand_ins import attributes, stand_in

FAMILY = WanFamily()


def model(name: str = "WanModel", **changes: object) -> Any:
    """Return the sizes of Wan 2.1 1.3B."""
    published = {
        "dim": 1536,
        "num_heads": 12,
        "num_layers": 30,
        "patch_size": (1, 2, 2),
        "in_dim": 16,
        "out_dim": 16,
        "rope_embedder": attributes(theta=10000),
    }
    return stand_in(name, **{**published, **changes})


def test_the_published_model() -> None:
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("wan2.1", 16)
    assert (traits.layers, traits.width, traits.heads) == (30, 1536, 12)
    assert (traits.patch, traits.time_stride) == ((2, 2), 4)
    assert [call.keys for call in traits.calls.tracked] == [("video",)]
    assert traits.can_shift
    assert traits.fills_up
    assert not traits.needs_image
    assert (traits.first_index, traits.frame_rate) == (0.0, None)
    assert traits.geometry(60, 104).tokens_per_frame == 30 * 52


def test_the_frequencies_are_those_of_the_published_code() -> None:
    """`rope_params(1024, d - 4 * (d // 6))` and `rope_params(1024, 2 * (d // 6))`, d = 128."""
    traits = FAMILY.describe(model())
    time = 1.0 / torch.pow(torch.tensor(10000.0).double(), torch.arange(0, 44, 2).double() / 44)
    place = 1.0 / torch.pow(torch.tensor(10000.0).double(), torch.arange(0, 42, 2).double() / 42)
    assert traits.rope.pairing == "interleaved"
    assert traits.rope.frequencies[0] == pytest.approx(time.tolist())
    assert traits.spatial_rope is not None
    rows, columns = traits.spatial_rope.rows[0], traits.spatial_rope.columns[0]
    assert rows == pytest.approx([0.0] * 22 + place.tolist() + [0.0] * 21)
    assert columns == pytest.approx([0.0] * (22 + 21) + place.tolist())


@pytest.mark.parametrize("name", ["WanModel", "CausalWanModel"])
def test_plain_models_are_served(name: str) -> None:
    assert FAMILY.matches(model(name))
    assert FAMILY.matches(model(name, in_dim=36))


def test_an_image_model_needs_an_image() -> None:
    traits = FAMILY.describe(model(in_dim=36))  # 16 of the video, 16 of the image, 4 of the mask
    assert traits.needs_image
    assert traits.latent_channels == 16
    assert not FAMILY.describe(model(in_dim=48, out_dim=48)).needs_image


def test_other_inputs_are_refused() -> None:
    with pytest.raises(UnsupportedFamilyError, match="its input has 16 channels of controls"):
        FAMILY.matches(model(in_dim=32))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("VaceWanModel", "VACE"),
        ("CameraWanModel", "camera"),
        ("WanModel_S2V", "speech"),
        ("HumoWanModel", "HuMo"),
        ("AnimateWanModel", "Animate"),
        ("SCAILWanModel", "SCAIL"),
        ("SCAIL2WanModel", "SCAIL"),
        ("WanDancerModel", "Dancer"),
    ],
)
def test_variants_are_refused_with_a_reason(name: str, reason: str) -> None:
    with pytest.raises(UnsupportedFamilyError, match=rf"{name}: .*{reason}") as error:
        FAMILY.matches(stand_in(name))
    assert error.value.expected == FAMILY.label


def test_others_are_none_of_them() -> None:
    assert not FAMILY.matches(stand_in("WanModelOfAnother"))
    assert not FAMILY.matches(object())
