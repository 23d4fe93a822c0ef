"""The frame rate at which a model places the frames of a stream, by what its prompts say.

Models that count time in seconds are told video frames per second with every prompt, as
*LTXVConditioning* does. A prompt that says nothing takes the rate of the other one, or else that of
the stream, or else the host's default.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ...adastate_core.errors import ConfigError
from ...adastate_core.families import ModelTraits
from ...adastate_core.stream.state import StreamState

RATE = "frame_rate"
DEFAULT = Fraction(25)
"""The rate that ComfyUI takes where a prompt says none."""
_MOST = 60


def frame_rate_of(
    traits: ModelTraits, state: StreamState, *conditionings: list[Any] | None
) -> Fraction:
    """Return video frames per second for the frames of a stream.

    Args:
        traits: What the core must know about the model.
        state: The stream so far.
        conditionings: The prompts; the first that says a rate counts.
    """
    said = _said(*conditionings)
    if said:
        return Fraction(said[0]).limit_denominator(1000)
    if traits.clock_at is not None and state.clock is not None:
        return traits.frame_rate_of(state.clock)
    return DEFAULT


def at_frame_rate(traits: ModelTraits, conditioning: list[Any], rate: Fraction) -> list[Any]:
    """Return a prompt that says the rate, where it says none and the model would take another.

    Args:
        traits: What the core must know about the model.
        conditioning: The prompt.
        rate: Video frames per second.
    """
    if traits.clock_at is None or rate == DEFAULT:
        return conditioning
    return [[text, {RATE: float(rate), **extras}] for text, extras in conditioning]


def check_frame_rate(traits: ModelTraits, *conditionings: list[Any] | None) -> None:
    """Refuse a frame rate at which the model does not place frames.

    Raises:
        ConfigError: For a family that is streamed at one rate, at another; for two rates at once,
            and for one that no video has.
    """
    said, expected = _said(*conditionings), traits.frame_rate
    for rate in said:
        if expected is not None and rate != expected:
            raise ConfigError(
                "frame_rate of the conditioning",
                problem=(
                    f"the prompt says {rate:g} frames per second, and this model streams at "
                    f"{expected:g}"
                ),
                seen=rate,
                expected=f"{expected:g}, at which the frames of a stream are placed",
                remedy=(
                    f"set frame_rate to {expected:g} before the prompt; choose the speed of the "
                    "video on Create Video"
                ),
            )
    if traits.clock_at is None or not said:
        return
    if len(set(said)) > 1:
        raise ConfigError(
            "frame_rate of the conditioning",
            problem=(
                f"positive says {said[0]:g} frames per second and negative {said[1]:g}, and a "
                "video has one rate"
            ),
            seen=said,
            expected="the same on both",
            remedy="connect both prompts to one LTXVConditioning",
        )
    if not 1 <= said[0] <= _MOST:
        raise ConfigError(
            "frame_rate of the conditioning",
            problem=f"the prompt says {said[0]:g} frames per second, which this model cannot place",
            seen=said[0],
            expected=f"1 to {_MOST}",
            remedy="set frame_rate to 24, 25 or 30 on LTXVConditioning",
        )


def _said(*conditionings: list[Any] | None) -> list[float]:
    found = [entry[1].get(RATE) for given in conditionings for entry in given or []]
    return [float(rate) for rate in found if rate is not None]
