"""MiniMax H3: what its module says of itself."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from adastate_core.attention.layers import LayerCounter
from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families import sound_of
from adastate_core.families.minimax import MiniMaxH3Family

FAMILY = MiniMaxH3Family()


def model(**changes: object) -> object:
    values = {
        "hidden_size": 5376,
        "latents_dim": 24,
        "audio_latents_dim": 32,
        "patch_size": (1, 2, 2),
        "blocks": [SimpleNamespace(attn=SimpleNamespace(heads=56, head_dim=128))] * 50,
        "rope": SimpleNamespace(inv_freq=10000.0 ** (-torch.arange(16) / 16)),
        "condition_proj": SimpleNamespace(in_features=5120),
    }
    found = type("MiniMaxH3Model", (), {})()
    vars(found).update({**values, **changes})
    return found


def test_the_published_model() -> None:
    traits = FAMILY.describe(model())
    assert (traits.layers, traits.width, traits.heads, traits.latent_channels) == (
        50,
        56 * 128,
        56,
        24,
    )
    assert (traits.text_width, traits.pattern, traits.time_stride) == (5120, 5, Fraction(17, 5))
    assert traits.more_text_widths == (5376,)
    (call,) = traits.calls.tracked
    assert call.keys == call.queries == ("text", "sound", "video")
    assert call.past == ("sound", "video")
    # 768 x 1344 is 48 x 84 latents, 1008 tokens a frame: 1.45 GB in bfloat16.
    assert 2 * traits.cache_values(48, 84, 1) == pytest.approx(1.45e9, rel=0.01)
    assert 2 * traits.text_values(128) == pytest.approx(0.18e9, rel=0.03)


def test_a_rotation_is_that_of_96_of_128_channels() -> None:
    rope = FAMILY.describe(model()).rope
    x = torch.randn((1, 3, 2, 128), generator=torch.Generator().manual_seed(0))
    turned = rope.rotate(x, (0.0, 1.0, 28.5))
    angles = torch.tensor([0.0, 1.0, 28.5])[:, None] * 10000.0 ** (-torch.arange(16) / 16)
    a, b = x[..., :16], x[..., 48:64]
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
    torch.testing.assert_close(turned[..., :16], a * cos - b * sin)
    torch.testing.assert_close(turned[..., 48:64], a * sin + b * cos)
    for still in (slice(16, 48), slice(64, 128)):
        assert torch.equal(turned[..., still], x[..., still])


def test_sound_is_known_by_its_latents() -> None:
    assert sound_of((1, 32, 2, 28)) == FAMILY.sound
    assert sound_of((1, 32, 28, 2)) is None
    assert sound_of((1, 24, 5, 4, 6)) is None
    ours = torch.zeros((1, 32, 28, 2))
    theirs = FAMILY.sound.to_model(ours)
    assert theirs.shape == (1, 32, 2, 28)
    assert FAMILY.sound.from_model(theirs).shape == ours.shape


def test_another_sound_is_refused() -> None:
    assert FAMILY.matches(model())
    assert not FAMILY.matches(object())
    with pytest.raises(UnsupportedFamilyError, match="its sound has 64 channels"):
        FAMILY.matches(model(audio_latents_dim=64))


def test_blocks_are_known_by_number_and_by_order() -> None:
    calls = FAMILY.describe(model()).calls
    for blocks in ([None] * 3, [(None, i) for i in range(3)], [("double", i) for i in range(3)]):
        counter = LayerCounter(calls)
        assert [place and place.layer for place in map(counter.place, blocks)] == [0, 1, 2]
