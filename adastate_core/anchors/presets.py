"""Published methods as options of the stream: sizes, anchor and positions of each, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..config import StreamConfig
from ..errors import ConfigError

PresetName = Literal[
    "adastate",
    "self_forcing",
    "longlive",
    "longlive_relative",
    "infinity_rope",
    "reward_forcing",
    "memrope",
    "rolling_sink",
    "raven",
    "omniforcing",
    "taomate",
]


BESIDE = ("anchor_strength", "cache_precision", "prompt_switch")
"""Options that can be set besides a preset and make it another method."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The options that reproduce the cache of a published method.

    Args:
        config: The options.
        title: The method, as its authors call it.
        reference: Where it is published, and at which commit its code was read.
        note: How this differs from the published code, or an empty text.
    """

    config: StreamConfig
    title: str
    reference: str
    note: str = ""


_RECACHE = (
    "At a change of prompt the first frames and the window are committed again, block by block; "
    "the published code keeps the first frames as they were and commits nine together."
)

PRESETS: dict[PresetName, Preset] = {
    "adastate": Preset(
        StreamConfig(),
        "AdaState",
        "arXiv 2605.30349",
        "The paper's code is not public; open points follow the most plausible reading.",
    ),
    "self_forcing": Preset(
        StreamConfig(anchor="none", window_frames=18, positions="absolute"),
        "Self-Forcing, 21 frames in view",
        "guandeh17/Self-Forcing at 33593df",
        "The published code stops at 21 frames unless it has a window, as here.",
    ),
    "longlive": Preset(
        StreamConfig(
            anchor="frozen",
            anchor_frames=3,
            window_frames=6,
            positions="absolute",
            prompt_switch="recache",
        ),
        "LongLive",
        "NVlabs/LongLive, branch v1.0, at e52d9ef",
        _RECACHE,
    ),
    "longlive_relative": Preset(
        StreamConfig(
            anchor="frozen",
            anchor_frames=3,
            window_frames=6,
            warmup_positions="grow",
            prompt_switch="recache",
        ),
        "LongLive, relative positions",
        "NVlabs/LongLive, branch v1.0, at e52d9ef (causal_model_infinity.py)",
        _RECACHE,
    ),
    "infinity_rope": Preset(
        StreamConfig(anchor="frozen", anchor_frames=1, window_frames=2, warmup_positions="grow"),
        "Infinity-RoPE",
        "yesiltepe-hidir/infinity-rope at 63d7b84",
        "As in the released code; the paper places the newest chunk at index 21. Its flush at a "
        "change of prompt keeps as much as this window holds, so there is nothing to do.",
    ),
    "reward_forcing": Preset(
        StreamConfig(
            anchor="ema", anchor_frames=3, window_frames=3, ema_rate=0.999, warmup_positions="grow"
        ),
        "Reward-Forcing",
        "JaydenLyh/Reward-Forcing at 4317f5a",
        "The average is in float32; the published one in bfloat16 hardly moves.",
    ),
    "memrope": Preset(
        StreamConfig(
            anchor="dual_ema",
            anchor_frames=3,
            window_frames=4,
            ema_rate=0.99,
            ema_fast_rate=0.9,
            warmup_positions="grow",
        ),
        "MemRoPE",
        "YoungRaeKimm/MemRoPE at b89bf5b",
        "As in the released code, whose averages also miss the first two frames that leave; they "
        "are in float32 here.",
    ),
    "rolling_sink": Preset(
        StreamConfig(anchor="rolling", anchor_frames=18, window_frames=3, positions="absolute"),
        "Rolling-Sink",
        "haodong2000/RollingSink at d7fc0d9",
        "The published script repeats one chunk's noise in every chunk; here each has its own.",
    ),
    "raven": Preset(
        StreamConfig(
            anchor="frozen",
            chunk_frames=5,
            anchor_frames=5,
            window_frames=10,
            positions="absolute",
            text_sees="prefill",
            commit_sigma=0.001,
            anchor_sound=True,
        ),
        "RAVEN, for MiniMax H3",
        "YanzuoLu/ComfyUI-MiniMax-H3-RAVEN-Streaming at bcfa381",
        "Text is computed once, at the noise of a commit, and sees itself alone; the first chunk "
        "is kept with its sound. Its weights make a chunk in 4 steps that add fresh noise, with a "
        "shift of 12 for the video and 3 for the sound, and were trained for 362 video frames. Its "
        "clips end with a chunk of two latent frames; here all are of five.",
    ),
    "omniforcing": Preset(
        StreamConfig(anchor="none", window_frames=15, positions="absolute"),
        "OmniForcing, for LTX-2.0",
        "OmniForcing/OmniForcing at 50a271f",
        "It makes 16 latent frames, 5 seconds, and sees them all; here a stream goes on and sees "
        "the newest. Its first chunk is of four latent frames with 26 latents of sound, the others "
        "of three with 25; chunks of a stream are of one length, so here the first is of three "
        "with 18. There the first frame takes a shorter step in time; here all are equal. Its "
        "noise levels are 1, 0.909, 0.725 and 0.421, with fresh noise in between.",
    ),
    "taomate": Preset(
        StreamConfig(
            anchor="frozen",
            chunk_frames=10,
            anchor_frames=10,
            window_frames=20,
            positions="absolute",
            anchor_sound=True,
        ),
        "TaoMate, for MiniMax H3",
        "TaoLiveAIGC/TaoMate-H3 at c360d11",
        "The memory alone: its sound is made by the plain model, 5 seconds at a time, and does not "
        "stream; it also cuts 5 seconds into chunks of 10, 10, 10 and 5, forgets sound after 12 of "
        "them, and gives the video the mean and spread of the first. What its text attends to is "
        "not published.",
    ),
}


@dataclass(frozen=True, slots=True)
class Departure:
    """Where options differ from the preset that is nearest.

    Args:
        preset: Name of the preset, `custom` if none has the same layout.
        changed: The options that differ from it, and their values.
    """

    preset: str
    changed: dict[str, Any]

    def __str__(self) -> str:
        """Say it in a few words; empty for a method as published, or none."""
        options = ", ".join(f"{name} {_shown(value)}" for name, value in self.changed.items())
        return f"not {self.preset} as published: {options}" if options else ""


def departure(config: StreamConfig, name: str | None = None) -> Departure:
    """Compare options with a preset, of which those beside the layout can be changed.

    Args:
        config: The options.
        name: The preset; the one of the same layout if it is not given.
    """
    for each, preset in PRESETS.items():
        published = preset.config
        beside = {option: getattr(published, option) for option in BESIDE}
        if name in (None, each) and replace(config, **beside) == published:
            ours = asdict(config)
            return Departure(each, {k: ours[k] for k, v in beside.items() if ours[k] != v})
    return Departure("custom", {})


def preset_config(name: str) -> StreamConfig:
    """Return the options of a preset.

    >>> preset_config("longlive").anchor
    'frozen'

    Raises:
        ConfigError: If there is none of that name.
    """
    known = {str(key): preset for key, preset in PRESETS.items()}
    if name not in known:
        raise ConfigError(
            "preset",
            problem=f'there is no preset "{name}"',
            seen=repr(name),
            expected=f"custom, {', '.join(PRESETS)}",
            remedy="choose another preset on Apply AdaState",
        )
    return known[name].config


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
