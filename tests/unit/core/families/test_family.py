"""What is asked of a model's traits, and how a model finds its family."""

from __future__ import annotations

from typing import Any

import pytest

from adastate_core.attention.kv_cache import KVCache
from adastate_core.attention.kv_format import KVFormat
from adastate_core.attention.layers import AttentionCalls, joint
from adastate_core.attention.rope import TemporalRope
from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families import FAMILIES, describe_model
from adastate_core.families.family import ModelTraits, refuse
from adastate_core.layout import CachedFrames
from tests.support.reference_host import Harness
from tests.support.stand_ins import attributes, stand_in


def traits(**changes: Any) -> ModelTraits:
    values = {
        "family": "wan2.1",
        "latent_channels": 16,
        "layers": 3,
        "width": 24,
        "patch": (2, 2),
        "rope": TemporalRope(((1.0,),)),
        "calls": AttentionCalls(),
        "time_stride": 4,
        "heads": 2,
    }
    return ModelTraits(**{**values, **changes})


@pytest.mark.parametrize(
    ("height", "width", "tokens", "columns"),
    [(4, 6, 6, 3), (5, 6, 9, 3), (4, 5, 6, 3), (1, 1, 1, 1)],
)
def test_patches_cover_the_whole_latent(height: int, width: int, tokens: int, columns: int) -> None:
    geometry = traits().geometry(height, width)
    assert (geometry.tokens_per_frame, geometry.columns) == (tokens, columns)


def test_the_geometry_hands_on_what_the_family_says() -> None:
    calls = AttentionCalls(of_block=(joint("text", "video"),))
    found = traits(calls=calls, can_shift=True, first_index=0.5).geometry(4, 6)
    assert (found.calls, found.can_shift, found.first_index) == (calls, True, 0.5)
    assert (found.layers, found.spatial_rope) == (3, None)
    assert found.rope is traits().rope or found.rope == traits().rope


def test_sizes_that_are_no_whole_patches() -> None:
    assert traits().takes(4, 6)
    assert not traits().takes(5, 6)
    assert not traits().takes(4, 7)
    assert traits(fills_up=True).takes(5, 7)


def test_numbers_of_a_cache_are_those_that_one_has() -> None:
    """The planned size against a cache that a stream wrote."""
    harness = Harness(size=(2, 3), kv_format=KVFormat("fp8"))
    harness.step(harness.fresh, 2)
    (cache,) = [c for c in harness.pool.caches() if c.cached.frames]
    model = harness.model
    found = traits(layers=len(model.blocks), width=48, heads=model.heads, patch=(1, 1))
    parts = {
        name: sum(p.numel() for n, p in cache.named_parameters() if n.endswith(name))
        for name in ("codes", "scales")
    }
    assert parts["codes"] == found.cache_values(2, 3, cache.cached.frames)
    assert parts["scales"] == found.cache_scales(cache.cached.frames)
    assert isinstance(cache, KVCache)
    assert cache.cached != CachedFrames()


def test_a_model_is_described_by_its_family() -> None:
    wan = stand_in(
        "WanModel",
        dim=1536,
        num_heads=12,
        num_layers=30,
        patch_size=(1, 2, 2),
        in_dim=16,
        out_dim=16,
        rope_embedder=attributes(theta=10000),
    )
    assert describe_model(wan).family == "wan2.1"


def test_an_unknown_model_is_told_what_would_do() -> None:
    with pytest.raises(UnsupportedFamilyError) as error:
        describe_model(stand_in("StableDiffusion"))
    assert error.value.seen == "StableDiffusion"
    for family in FAMILIES:
        assert family.label in error.value.expected


def test_a_variant_is_refused_before_others_are_asked() -> None:
    with pytest.raises(UnsupportedFamilyError, match=r"^AdaState cannot stream VaceWanModel: VACE"):
        describe_model(stand_in("VaceWanModel"))


def test_a_refusal_says_why_and_what_is_served() -> None:
    with pytest.raises(UnsupportedFamilyError) as error:
        refuse("OtherModel", "it is another", "this one")
    assert (error.value.seen, error.value.expected) == ("OtherModel (it is another)", "this one")
