"""The options of a stream: what is refused, and what is written down."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from adastate_core.config import MAX_COMMIT_SIGMA, MAX_FRAMES, MAX_STRENGTH, StreamConfig
from adastate_core.errors import ConfigError


def test_the_published_recurrence_is_the_default() -> None:
    assert StreamConfig().to_json() == {
        "anchor": "adaptive",
        "chunk_frames": 3,
        "window_frames": 3,
        "state_frames": 1,
        "anchor_frames": 3,
        "state_rope": "shared0",
        "warmup_positions": "fixed",
        "content_sees_current_state": True,
        "reencode_sees_prev_state": True,
        "prompt_switch": "swap",
        "flush_frames": 1,
        "positions": "relative",
        "ema_rate": 0.999,
        "ema_fast_rate": 0.9,
        "anchor_strength": 1.0,
        "cache_precision": "model",
    }


CHOICES = (
    "anchor",
    "state_rope",
    "warmup_positions",
    "prompt_switch",
    "positions",
    "cache_precision",
    "text_sees",
)
COUNTS = {
    "chunk_frames": 1,
    "window_frames": 0,
    "state_frames": 0,
    "anchor_frames": 1,
    "flush_frames": 0,
}
SHARES = {
    "ema_rate": 1.0,
    "ema_fast_rate": 1.0,
    "anchor_strength": MAX_STRENGTH,
    "commit_sigma": MAX_COMMIT_SIGMA,
}
ADDED = {"text_sees": "prefill", "commit_sigma": 0.001, "anchor_sound": True}


def refused(**options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        StreamConfig(**options)
    return error.value


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["other", "", None, 1])
def test_unknown_choices_are_refused_by_name(name: str, value: object) -> None:
    error = refused(**{name: value})
    assert (error.what, error.seen) == (name, repr(value))
    assert str(getattr(StreamConfig(), name)) in error.expected.split(" or ")


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_and_within_bounds(name: str) -> None:
    low = COUNTS[name]
    for value in (low - 1, MAX_FRAMES + 1, 2.0, True, "3", None):
        error = refused(**{name: value})
        assert (error.what, error.seen) == (name, value)
        assert error.expected == f"a whole number {low} to {MAX_FRAMES}"
    for value in (low, MAX_FRAMES):
        anchor = {"anchor": "none"} if name == "state_frames" else {}
        assert getattr(StreamConfig(**{name: value, **anchor}), name) == value


@pytest.mark.parametrize("name", SHARES)
def test_shares_are_within_bounds(name: str) -> None:
    for value in (-0.01, SHARES[name] + 0.01, float("nan"), float("inf"), "1", None):
        assert refused(**{name: value}).what == name
    for value in (0, 0.0, SHARES[name]):
        assert getattr(StreamConfig(**{name: value}), name) == value


def test_every_option_is_checked() -> None:
    flags = {"content_sees_current_state", "reencode_sees_prev_state", "anchor_sound"}
    assert {f.name for f in fields(StreamConfig)} == {*CHOICES, *COUNTS, *SHARES, *flags}


@pytest.mark.parametrize(
    ("options", "what", "allowed"),
    [
        ({"positions": "absolute"}, "positions", {"anchor": "frozen"}),
        ({"positions": "absolute"}, "positions", {"state_frames": 0}),
        ({"cache_precision": "fp8", "anchor": "ema"}, "cache_precision", {"anchor": "frozen"}),
        (
            {"cache_precision": "fp8", "anchor": "dual_ema"},
            "cache_precision",
            {"anchor": "rolling", "anchor_frames": 4},
        ),
        ({"anchor": "rolling"}, "anchor_frames", {"anchor_frames": 4}),
        ({"anchor_sound": True}, "anchor_sound", {"anchor": "frozen"}),
        ({"anchor_sound": True, "anchor": "ema"}, "anchor_sound", {"anchor": "frozen"}),
        ({"anchor": "rolling", "anchor_frames": 2}, "anchor_frames", {"window_frames": 1}),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], what: str, allowed: dict[str, Any]
) -> None:
    assert refused(**options).what == what
    StreamConfig(**{**options, **allowed})


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="chunk_frames"):
        replace(StreamConfig(), chunk_frames=0)
    with pytest.raises(FrozenInstanceError):
        StreamConfig().chunk_frames = 0  # type: ignore[misc]


def test_json_there_and_back() -> None:
    config = StreamConfig(anchor="dual_ema", ema_rate=0.5, content_sees_current_state=False)
    values = json.loads(json.dumps(config.to_json()))
    assert StreamConfig.from_json(values) == config


def test_json_of_an_older_version_lacks_what_came_later() -> None:
    assert StreamConfig.from_json({"window_frames": 5}) == StreamConfig(window_frames=5)


def test_json_of_a_newer_version_is_refused_by_field() -> None:
    with pytest.raises(
        ConfigError, match=r"does not know \(also_new, new\)\. Update AdaState"
    ) as error:
        StreamConfig.from_json({"new": 1, "also_new": 2, "chunk_frames": 3})
    assert error.value.seen == "also_new, new"
    with pytest.raises(ConfigError, match="chunk_frames"):
        StreamConfig.from_json({"chunk_frames": 99})


def test_the_text_is_one_line_that_says_everything() -> None:
    config = StreamConfig(anchor="frozen", anchor_frames=2)
    assert "\n" not in config.text
    assert StreamConfig.from_json(json.loads(config.text)) == config
    assert config.text == StreamConfig(anchor_frames=2, anchor="frozen").text
    for field in fields(StreamConfig):
        assert (f'"{field.name}"' in config.text) == (field.name not in ADDED)


def test_what_came_later_is_written_where_it_says_something() -> None:
    """An older AdaState, which refuses what it does not know, opens all other streams."""
    config = StreamConfig(anchor="frozen", **ADDED)
    assert {k: v for k, v in config.to_json().items() if k in ADDED} == ADDED
    assert StreamConfig.from_json(json.loads(config.text)) == config
    for name in ADDED:
        assert name not in replace(config, **{name: getattr(StreamConfig(), name)}).to_json()


def test_equal_configs_have_one_text() -> None:
    """Texts are part of cache keys, and a file may say 1 where a default says 1.0."""
    whole, broken = StreamConfig(anchor_strength=2), StreamConfig(anchor_strength=2.0)
    assert whole == broken
    assert whole.text == broken.text
