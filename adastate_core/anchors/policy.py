"""What an anchor policy must answer, in plain integers."""

from __future__ import annotations

from typing import Literal, Protocol

from ..config import StreamConfig
from ..layout import CachedFrames, CommitPlan, SlotLayout

Averages = Literal["none", "frames", "picture"]
"""What a policy averages: nothing, frames place by place, or also over the image."""


class AnchorPolicy(Protocol):
    """How slot 0 evolves, which frames stay, and which index each slot has."""

    @property
    def averages(self) -> Averages:
        """Say what it averages. Averages are kept in float32."""
        ...

    def state_frames(self, config: StreamConfig) -> int:
        """Count the state frames that are denoised along with the content."""
        ...

    def sink_frames(self, config: StreamConfig) -> int:
        """Count the content frames that slot 0 begins with."""
        ...

    def kept_frames(self, config: StreamConfig) -> int:
        """Count the frames that slot 0 and the window hold together at most."""
        ...

    def layout(self, config: StreamConfig, cached: CachedFrames) -> SlotLayout:
        """Place the frames that the next chunk sees.

        The layout reads frames of slot 0, usually the first ones, and the newest ones of the
        window; no query attends to frames that it does not place.
        """
        ...

    def commit(self, config: StreamConfig, cached: CachedFrames, *, hold: bool) -> CommitPlan:
        """Choose the frames that slot 0 and the window hold after this chunk.

        With `hold`, a slot 0 that holds something stays as it is.
        """
        ...
