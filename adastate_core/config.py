"""The choices that define one stream, frozen and validated.

Owns names, ranges and defaults. What a choice means in slots and temporal indices is
`layout` and `anchors`; nothing here touches a tensor.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, get_args

from .errors import ConfigError

Anchor = Literal["adaptive", "frozen", "ema", "dual_ema", "rolling", "none"]
Positions = Literal["relative", "absolute"]
StateRope = Literal["shared0", "split01"]
WarmupPositions = Literal["fixed", "grow"]
PromptSwitch = Literal["swap", "recache", "flush"]
Precision = Literal["model", "fp8"]
TextSees = Literal["all", "text", "prefill"]

MAX_FRAMES = 64
"""Upper bound of every frame count: far above any published layout, low enough to catch typos."""

MAX_STRENGTH = 8.0
"""Upper bound of the anchor's strength; the attention is saturated long before."""

MAX_COMMIT_SIGMA = 0.5
"""Upper bound of the noise of a commit; published methods go up to 0.001."""

_ADDED = ("text_sees", "commit_sigma", "anchor_sound")
"""Options that are written down only where they are not the default, which older files mean."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The options of one stream.

    >>> config = StreamConfig(anchor="frozen", anchor_frames=1, window_frames=6)
    >>> StreamConfig.from_json(config.to_json()) == config
    True
    >>> StreamConfig(chunk_frames=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AdaState.ConfigError: chunk_frames is 0; it is a whole number from 1 to 64. Change...

    `state_rope` to `prompt_switch` are readings of points that the paper leaves open; their
    defaults are the most plausible ones.

    Args:
        anchor: How slot 0 evolves.
        chunk_frames: Content latent frames made by one chunk (F).
        window_frames: Newest content latent frames kept in the cache (W_p).
        state_frames: Hidden latent frames denoised along with the content (F_s).
            Only the adaptive anchor has a state.
        anchor_frames: First content latent frames that slot 0 holds: what the frozen anchor and
            the averaged ones begin with, and what the rolling one goes through.
        state_rope: `shared0` puts the previous and the current state both at index 0,
            `split01` puts the current one after the previous one.
        warmup_positions: `fixed` gives chunk 0 the indices of every later chunk, `grow` lets
            the indices start at the front while slots are empty.
        content_sees_current_state: Whether content queries attend to the state being denoised.
        reencode_sees_prev_state: Whether the commit pass attends to the old slot 0.
        prompt_switch: What a changed prompt does to the cache: `swap` keeps it, `recache`
            commits the window again under the new prompt, `flush` keeps slot 0 and the newest
            `flush_frames` frames.
        flush_frames: Window frames that survive a `flush`.
        positions: `relative` gives every chunk the same temporal indices, `absolute` counts the
            frames of the stream. A state has a place among relative ones only.
        ema_rate: Share of the averaged anchor that stays when frames leave the window; of two
            averages, that of the slow one.
        ema_fast_rate: The same for the fast one of two.
        anchor_strength: Factor on the attention weights of slot 0, before they are normalised.
        cache_precision: How keys and values of past frames are kept: as the model projected
            them, or rounded to 8 bits, in which an average would not move.
        text_sees: What text tokens attend to, in a model that has them in one sequence with the
            video: `all` is the past and the block, `text` is text alone. With `prefill`, text alone
            too, and its keys and values are computed once, at the noise of a commit, whatever the
            step. Models whose text is not in the sequence are the same with each.
        commit_sigma: Noise at which clean latents are forwarded in a commit, and the share of fresh
            noise that is mixed in.
        anchor_sound: Whether first frames in slot 0 keep their sound. Only a frozen anchor can.

    Raises:
        ConfigError: If a value is out of range; names the field.
    """

    anchor: Anchor = "adaptive"
    chunk_frames: int = 3
    window_frames: int = 3
    state_frames: int = 1
    anchor_frames: int = 3
    state_rope: StateRope = "shared0"
    warmup_positions: WarmupPositions = "fixed"
    content_sees_current_state: bool = True
    reencode_sees_prev_state: bool = True
    prompt_switch: PromptSwitch = "swap"
    flush_frames: int = 1
    positions: Positions = "relative"
    ema_rate: float = 0.999
    ema_fast_rate: float = 0.9
    anchor_strength: float = 1.0
    cache_precision: Precision = "model"
    text_sees: TextSees = "all"
    commit_sigma: float = 0.0
    anchor_sound: bool = False

    def __post_init__(self) -> None:
        _require_choice("anchor", self.anchor, get_args(Anchor))
        _require_choice("state_rope", self.state_rope, get_args(StateRope))
        _require_choice("warmup_positions", self.warmup_positions, get_args(WarmupPositions))
        _require_choice("prompt_switch", self.prompt_switch, get_args(PromptSwitch))
        _require_choice("cache_precision", self.cache_precision, get_args(Precision))
        _require_count("chunk_frames", self.chunk_frames, 1)
        _require_count("window_frames", self.window_frames, 0)
        _require_count("state_frames", self.state_frames, 0)
        _require_count("anchor_frames", self.anchor_frames, 1)
        _require_count("flush_frames", self.flush_frames, 0)
        _require_choice("positions", self.positions, get_args(Positions))
        _require_share("ema_rate", self.ema_rate, 1.0)
        _require_share("ema_fast_rate", self.ema_fast_rate, 1.0)
        _require_share("anchor_strength", self.anchor_strength, MAX_STRENGTH)
        _require_choice("text_sees", self.text_sees, get_args(TextSees))
        _require_share("commit_sigma", self.commit_sigma, MAX_COMMIT_SIGMA)
        if self.positions == "absolute" and self.anchor == "adaptive" and self.state_frames:
            raise ConfigError(
                "positions",
                problem="absolute positions do not go with a hidden state",
                seen="absolute with a hidden state",
                expected="relative",
                remedy="choose relative positions or another anchor on Apply AdaState",
            )
        if self.cache_precision == "fp8" and self.anchor in ("ema", "dual_ema"):
            raise ConfigError(
                "cache_precision",
                problem=f"the anchor {self.anchor} would not move in fp8",
                seen=f"fp8 with the anchor {self.anchor}",
                expected="model",
                remedy="set cache_precision to model on Apply AdaState",
            )
        if self.anchor_sound and self.anchor != "frozen":
            raise ConfigError(
                "anchor_sound",
                problem=f"the anchor {self.anchor} cannot keep sound",
                seen=f"anchor_sound with the anchor {self.anchor}",
                expected="the frozen anchor, whose frames stay as they were made",
                remedy="choose the frozen anchor or another preset on Apply AdaState",
            )
        if self.anchor == "rolling" and self.anchor_frames <= self.window_frames:
            raise ConfigError(
                "anchor_frames",
                problem=(
                    "a rolling anchor needs more anchor_frames than window_frames "
                    f"({self.anchor_frames}, {self.window_frames})"
                ),
                seen=f"{self.anchor_frames} with a rolling anchor",
                expected=f"more than the {self.window_frames} window_frames, which are among them",
                remedy="raise anchor_frames or lower window_frames on Apply AdaState",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, those of `_ADDED` where they say something."""
        values, default = asdict(self), StreamConfig.__dataclass_fields__
        return {k: v for k, v in values.items() if k not in _ADDED or v != default[k].default}

    @property
    def text(self) -> str:
        """Return the fields as one line of text, the same for equal configs."""
        return _text(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StreamConfig:
        """Build a config from `to_json`.

        Raises:
            ConfigError: If a field is unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                "stream config has unknown fields",
                problem=(
                    "this stream has options that this AdaState does not know "
                    f"({', '.join(unknown)})"
                ),
                seen=", ".join(unknown),
                expected=", ".join(sorted(known)),
                remedy="update AdaState",
            )
        return cls(**values)


@lru_cache(maxsize=64)
def _text(config: StreamConfig) -> str:
    return json.dumps(config.to_json(), sort_keys=True)


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            name,
            problem=f'{name} cannot be "{value}"',
            seen=repr(value),
            expected=" or ".join(choices),
            remedy=f"choose {' or '.join(choices)}",
        )


def _require_share(name: str, value: object, high: float) -> None:
    if not isinstance(value, float | int) or not 0.0 <= value <= high:
        raise ConfigError(
            name,
            problem=f"{name} is {value}; it goes from 0 to {high:g}",
            seen=value,
            expected=f"0 to {high:g}",
            remedy=f"change {name} on Apply AdaState",
        )


def _require_count(name: str, value: object, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_FRAMES:
        raise ConfigError(
            name,
            problem=f"{name} is {value}; it is a whole number from {low} to {MAX_FRAMES}",
            seen=value,
            expected=f"a whole number {low} to {MAX_FRAMES}",
            remedy=f"change {name} on Apply AdaState",
        )
