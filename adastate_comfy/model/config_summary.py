"""What Apply AdaState says of the options that it binds."""

from __future__ import annotations

from ...adastate_core.anchors.presets import departure
from ...adastate_core.config import StreamConfig

CUSTOM = "custom"
"""The choice that is no preset."""


def departure_note(preset: str, config: StreamConfig) -> str:
    """Say where options differ from the preset that was chosen, if they do."""
    return "" if preset == CUSTOM else str(departure(config, preset))


def summarize(preset: str, config: StreamConfig, note: str) -> str:
    """Say what is in effect, since a preset overrides what the widgets show."""
    text = (
        f"{preset}: {config.anchor} anchor, window of {config.window_frames} and chunks of "
        f"{config.chunk_frames} latent frames, {config.prompt_switch} when the prompt changes"
    )
    return f"{text}; {note}" if note else text
