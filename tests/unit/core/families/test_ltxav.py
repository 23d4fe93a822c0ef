"""LTX-2: six calls a layer, positions in seconds, and which sound belongs to which frame."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch

from adastate_core.attention.layers import LayerCall
from adastate_core.errors import UnsupportedFamilyError
from adastate_core.families import sound_of
from adastate_core.families.ltxav import Ltx2Family
from tests.support.stand_ins import attributes, stand_in

FAMILY = Ltx2Family()
RATES = [24, 25, 30, 50, Fraction("23.976")]


def grid(theta: float, axes: int, width: int, device: str) -> torch.Tensor:
    """Return radians per unit of a position as the published code has them, rounded."""
    steps = torch.linspace(0.0, 1.0, width // (2 * axes), dtype=torch.float64)
    return (theta**steps * math.pi / 2).float()


def model(**changes: object) -> Any:
    """Return the sizes of LTX-2 19B."""
    published = {
        "split_positional_embedding": attributes(value="split"),
        "freq_grid_generator": staticmethod(grid),
        "positional_embedding_max_pos": [20, 2048, 2048],
        "audio_positional_embedding_max_pos": [20],
        "vae_scale_factors": (8, 32, 32),
        "in_channels": 128,
        "num_audio_channels": 8,
        "audio_frequency_bins": 16,
        "transformer_blocks": [None] * 48,
        "inner_dim": 4096,
        "num_attention_heads": 32,
        "audio_inner_dim": 2048,
        "audio_num_attention_heads": 32,
        "cross_attention_dim": 4096,
        "audio_cross_attention_dim": 2048,
        "caption_channels": 3840,
        "caption_proj_before_connector": False,
        "causal_temporal_positioning": True,
        "use_middle_indices_grid": True,
    }
    return stand_in("LTXAVModel", **{**published, **changes})


def call(name: str) -> LayerCall:
    traits = FAMILY.describe(model())
    (found,) = (each for each in traits.calls.tracked if each.name == name)
    return found


def test_the_published_model() -> None:
    assert FAMILY.matches(model())
    traits = FAMILY.describe(model())
    assert (traits.family, traits.latent_channels) == ("ltx-2", 128)
    assert (traits.layers, traits.width, traits.heads) == (48, 4096, 32)
    assert (traits.patch, traits.time_stride, traits.pattern) == ((1, 1), 8, 1)
    assert (traits.text_width, set(traits.more_text_widths)) == (3840, {6144, 7680})
    assert FAMILY.describe(model(caption_proj_before_connector=True)).text_width == 6144
    assert sound_of((1, 8, 26, 16)) == FAMILY.sound


def test_the_calls_of_a_layer() -> None:
    traits = FAMILY.describe(model())
    heard, silent = traits.geometry(4, 6, sound=True), traits.geometry(4, 6)
    order = [each and (each.queries, each.keys) for each in heard.calls.of_block]
    video, sound = ("video",), ("sound",)
    text = None
    assert order == [
        (video, video),
        text,
        (sound, sound),
        text,
        (video, sound),
        (sound, video),
    ]
    assert (heard.calls.per_block, silent.calls.per_block) == (6, 2)
    assert [each.name for each in silent.calls.tracked] == ["self"]
    assert heard.needs_sound
    assert not silent.needs_sound


def test_numbers_of_a_cache() -> None:
    """Bytes a latent frame and a latent of sound in bfloat16, as they are known of the model."""
    traits = FAMILY.describe(model())
    frame = traits.cache_values(16, 24, 1, ticks=1) - traits.cache_values(16, 24, 0, ticks=1)
    tick = traits.cache_values(16, 24, 0, ticks=1)
    assert 2 * frame == 384 * 2 * 2 * 48 * (4096 + 2048)  # keys and values of two calls
    assert 2 * tick == 2 * 2 * 48 * (2048 + 2048)
    assert traits.cache_values(16, 24, 1) == 384 * 2 * 48 * 4096
    assert traits.cache_scales(1, ticks=1) == 2 * 48 * 32 * 4
    assert traits.cache_scales(1) == 2 * 48 * 32


def published_angles(axes: int, width: int, places: list[float]) -> torch.Tensor:
    """Return the angles of all pairs of a token, by its places as parts of their ranges."""
    angles = grid(10000.0, axes, width, "cpu").double() * (
        torch.tensor(places, dtype=torch.float64)[:, None] * 2 - 1
    )
    flat = angles.transpose(0, 1).flatten()
    return torch.cat((torch.zeros(width // 2 - len(flat), dtype=torch.float64), flat))


@pytest.mark.parametrize("axis", range(3))
def test_frequencies_of_the_video_are_differences_of_the_published_angles(axis: int) -> None:
    traits = FAMILY.describe(model())
    assert traits.spatial_rope is not None
    assert traits.rope.pairing == traits.spatial_rope.pairing == "half"
    rows = (traits.rope.frequencies, traits.spatial_rope.rows, traits.spatial_rope.columns)
    assert [len(head) for head in rows[axis]] == [64] * 32
    there = [0.0, 0.0, 0.0]
    there[axis] = 1 / 25 / 20 if axis == 0 else 32 / 2048  # one latent of sound, one token
    steps = published_angles(3, 4096, there) - published_angles(3, 4096, [0.0] * 3)
    found = torch.tensor(rows[axis], dtype=torch.float64).flatten()
    torch.testing.assert_close(found, steps, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["sound", "video-to-sound", "sound-to-video"])
@pytest.mark.parametrize("seconds", [20, 40])
def test_frequencies_of_calls_with_sound(name: str, seconds: int) -> None:
    """The sound's own range rules its own call; the longer of both the calls between them."""
    traits = FAMILY.describe(model(audio_positional_embedding_max_pos=[seconds]))
    (found,) = (each for each in traits.calls.tracked if each.name == name)
    assert found.rope is not None
    assert (found.rope.pairing, found.in_space) == ("half", False)
    assert (found.width, found.heads) == (2048, 32)
    there = published_angles(1, 2048, [1 / 25 / seconds])
    steps = there - published_angles(1, 2048, [0.0])
    seen = torch.tensor(found.rope.frequencies, dtype=torch.float64)
    assert seen.shape == (32, 32)
    torch.testing.assert_close(seen.flatten(), steps, atol=1e-9, rtol=0)


def test_pairs_may_be_interleaved() -> None:
    other = FAMILY.describe(model(split_positional_embedding=attributes(value="interleaved")))
    assert other.rope.pairing == "interleaved"
    assert {each.rope.pairing for each in other.calls.tracked if each.rope} == {"interleaved"}
    assert other.rope.frequencies == FAMILY.describe(model()).rope.frequencies


def video_middle(frame: int, rate: float) -> float:
    """Return the middle of a latent frame in latents of sound, as ComfyUI computes it."""
    return 25 / rate * (max(0, 8 * frame - 7) + 8 * frame + 1) / 2


def sound_middle(tick: int) -> float:
    return 25 * 0.01 * (max(0, 4 * tick - 3) + 4 * tick + 1) / 2


@pytest.mark.parametrize("rate", RATES)
def test_places_are_those_of_the_model_but_for_a_shift(rate: Fraction) -> None:
    traits = FAMILY.describe(model()).at(Fraction(rate))
    places = traits.geometry(4, 6, sound=True).places(0, 5, 30)
    frames = [video_middle(frame, float(rate)) for frame in range(5)]
    ticks = [sound_middle(tick) for tick in range(30)]
    (shift,) = {round(a - b, 9) for a, b in zip(places["video"], frames, strict=True)}
    assert [a - shift for a in places["sound"]] == pytest.approx(ticks, abs=1e-9)
    # Only the first of each is nearer to the second than the others are to each other.
    assert len({round(b - a, 9) for a, b in pairwise(places["video"][1:])}) == 1
    assert len({round(b - a, 9) for a, b in pairwise(places["sound"][1:])}) == 1


@pytest.mark.parametrize("rate", RATES)
def test_a_latent_of_sound_belongs_to_the_frame_in_which_it_ends(rate: Fraction) -> None:
    clock = FAMILY.describe(model()).at(Fraction(rate)).clock
    assert clock is not None
    for frame in range(1, 400):
        begins = 25 * (8 * frame - 7) / Fraction(rate)
        first = clock.first_tick(frame)
        assert first + Fraction(1, 4) >= begins > first - 1 + Fraction(1, 4)


@pytest.mark.parametrize(
    ("rate", "chunks"),
    [(24, [26, 25, 25, 25]), (25, [25, 24, 24, 24]), (30, [21, 20, 20, 20])],
)
def test_chunks_of_four_then_three_frames(rate: int, chunks: list[int]) -> None:
    traits = FAMILY.describe(model()).at(Fraction(rate))
    assert traits.clock is not None
    firsts = [0, 4, 7, 10, 13]
    assert [traits.clock.ticks_of(a, b - a) for a, b in pairwise(firsts)] == chunks
    assert traits.frame_rate_of(traits.clock) == rate


def test_sound_does_not_drift() -> None:
    """After an hour at 24 pictures a second, as many latents as the hour has."""
    clock = FAMILY.describe(model()).at(Fraction(24)).clock
    assert clock is not None
    frames = 3600 * 24 // 8
    assert abs(clock.first_tick(frames) - 3600 * 25) <= 8


def test_what_differs_at_a_frame_rate_is_the_clock_alone() -> None:
    traits = FAMILY.describe(model())
    assert traits.at(Fraction(25)) == traits
    other = traits.at(Fraction(24))
    assert other.clock != traits.clock
    assert other.rope == traits.rope


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (model(causal_temporal_positioning=False), "its file lacks the header"),
        (model(use_middle_indices_grid=False), "its file lacks the header"),
        (model(num_audio_channels=4), "stand for other lengths"),
        (model(vae_scale_factors=(4, 32, 32)), "stand for other lengths"),
    ],
)
def test_what_cannot_be_streamed_is_refused(refused: object, reason: str) -> None:
    with pytest.raises(UnsupportedFamilyError, match=reason):
        FAMILY.matches(refused)


def test_others_are_none_of_them() -> None:
    assert not FAMILY.matches(stand_in("LTXVModel"))
