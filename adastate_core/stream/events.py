"""What can happen to a stream: one immutable event for each, and what identifies a step.

The events are all that a stream keeps. `context` says which latents they leave in slot 0 and the
window, `rollout.replay_plan` how to rebuild the KV cache from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from ..config import StreamConfig
from ..digest import tensor_digest
from .conditioning import Conditioning

HOLD_FOREVER = -1

PROMPT_LENGTH = 4096
"""Characters of a prompt that are kept, at most."""

ResetScope = Literal["anchor", "window", "all"]
RootReason = Literal["start", "restart", "reset", "recache", "blend"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditionings of a step; `guided` says whether the negative one is computed."""

    positive: Conditioning
    negative: Conditioning | None = None
    guided: bool = False


@dataclass(frozen=True, slots=True)
class ChunkEvent:
    """One generated chunk.

    Args:
        index: Absolute chunk index.
        seed: Seed of the step that made it.
        positive: Digest of the positive conditioning.
        negative: Digest of the negative conditioning, or None.
        weights: Digest of the weight patches (LoRA) in effect.
        config: Options in effect.
        held: Whether its commit leaves slot 0 alone.
        approximate: Whether the cache it attended to was rebuilt from less than the whole history,
            or with other weights than before.
        latents: Digest of its latents, which outlives them in a bounded history.
        frame: Content frame of the stream, given ones included, at which it begins; counted from
            the newest beginning.
        state: Clean state latents, (B, C, F_s, H, W) in model space; None if there are none or
            they are beyond the bounded history.
        content: Clean content latents, (B, C, F, H, W) in model space; None beyond the history.
        prompt: The text behind the positive conditioning, empty where it is not known. A caption:
            nothing is computed from it, and chunks that differ in nothing else are equal.
        sound: Clean latents of the content's sound, (B, C, T, R) in the space of its VAE, time on
            the third axis; None if there is none, or beyond the history.
    """

    index: int
    seed: int
    positive: str
    negative: str | None
    weights: str
    config: StreamConfig
    held: bool = False
    approximate: bool = False
    latents: str = ""
    frame: int = 0
    state: Tensor | None = field(default=None, repr=False)
    content: Tensor | None = field(default=None, repr=False)
    prompt: str = field(default="", repr=False, compare=False)
    sound: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GivenLatentsEvent:
    """Given latents, which are committed with nothing before them.

    Args:
        reason: What made it. `start` leaves slot 0 to the anchor policy, `restart` lets it begin
            with the last of the given frames, the others say what it holds.
        raw: Whether the latents are still in VAE space: they were given before any model.
        latents: Digest of the latents as they were given, which outlives them in a bounded
            history; made if it is not given.
        frame: Content frame of the stream at which `content` begins.
        state: Latents of slot 0, (B, C, T, H, W), or None.
        content: Latents of the window, (B, C, T, H, W), or None.
        sound: Latents of the sound of `content`, (B, C, T, R) in the space of its VAE, or None.
    """

    reason: RootReason
    raw: bool = False
    latents: str = ""
    frame: int = 0
    state: Tensor | None = field(default=None, repr=False)
    content: Tensor | None = field(default=None, repr=False)
    sound: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.latents:
            # Which part a tensor is, and in which space, belongs to what was given.
            named = {"state": self.state, "content": self.content, "sound": self.sound}
            parts = [f"{n}={tensor_digest(x)}" for n, x in named.items() if x is not None]
            space = "raw" if self.raw else "model"
            object.__setattr__(self, "latents", ":".join([self.reason, space, *parts]))

    @property
    def forgotten(self) -> bool:
        """Whether the latents are beyond the bounded history."""
        return self.state is None and self.content is None


LATENTS = ("state", "content", "sound")
"""The fields of an event that are tensors."""


@dataclass(frozen=True, slots=True)
class ResetEvent:
    """The emptying of slot 0, the window, or both."""

    scope: ResetScope


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """A hold of slot 0 for a number of chunks; -1 means until released, 0 releases it."""

    chunks: int


@dataclass(frozen=True, slots=True)
class FlushEvent:
    """The eviction of all but slot 0 and the newest window frames."""

    frames: int


@dataclass(frozen=True, slots=True)
class RewindEvent:
    """A note that everything after a chunk was taken back; it changes nothing by itself."""

    chunk: int


Event = ChunkEvent | GivenLatentsEvent | ResetEvent | HoldEvent | FlushEvent | RewindEvent


def without_latents(event: Event) -> Event:
    """Return an event without its latents, if it has any."""
    if isinstance(event, ChunkEvent | GivenLatentsEvent):
        return replace(event, state=None, content=None, sound=None)
    return event


def is_beginning(event: Event) -> bool:
    """Say whether nothing before this event can matter to slot 0 or the window."""
    return isinstance(event, GivenLatentsEvent) or event == ResetEvent("all")


def newest_beginning(events: Sequence[Event]) -> int:
    """Return the position of the newest beginning, or 0."""
    positions = range(len(events) - 1, -1, -1)
    return next((i for i in positions if is_beginning(events[i])), 0)
