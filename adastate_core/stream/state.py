"""The stream as a value: everything a stream is, except what can be computed from it.

A `StreamState` is immutable and holds no keys and values. It has the clean latents of
every chunk, the conditionings used, and an event for everything that happened, from which
`rollout` rebuilds the KV cache. Every operation returns a new state and shares the tensors. One
more chunk costs the same however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..anchors import policy_for
from ..clock import StreamClock
from ..config import StreamConfig
from ..errors import ConfigError, LayoutError, StateMismatchError
from ..fingerprint import ModelFingerprint
from .conditioning import Conditioning
from .context import ContextLatents, context_latents
from .event_log import EventLog
from .events import (
    HOLD_FOREVER,
    ChunkEvent,
    Conditions,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    ResetScope,
    RewindEvent,
    RootReason,
    is_beginning,
)
from .fitting import require_model, require_size
from .history import kept_chunks, pruned, trimmed
from .origin import StreamOrigin


@dataclass(frozen=True, slots=True, repr=False)
class StreamState:
    """A stream from one chunk to the next.

    >>> fresh = StreamState((1, 16, 60, 104))
    >>> held = fresh.hold_anchor(chunks=2).flush(frames=1)
    >>> list(held.events), held.hold
    ([HoldEvent(chunks=2), FlushEvent(frames=1)], 2)
    >>> fresh  # is as it was
    StreamState(next chunk 0, latent 1x16x60x104)

    Args:
        latent_shape: (B, C, H, W) of one latent frame.
        fingerprint: The model that made it; None before the first chunk.
        latent_format: The host's name for the scaling between VAE space and model space; empty
            before the first chunk.
        chunk_index: Absolute index of the next chunk.
        hold: Chunks for which slot 0 stays held; -1 until released.
        history_chunks: Chunks whose latents are kept; 0 keeps all.
        events: Everything that happened, oldest first; any sequence becomes an `EventLog`.
        conditionings: Every conditioning in use, by digest.
        origin: The named stream it was opened from, or None; kept by every operation.
        sound_shape: (C, R) of one latent of its sound; None for a stream without.
        clock: When its frames begin and which sound belongs to them; None before the first chunk,
            and for a model whose frames are all alike and that makes no sound.
    """

    latent_shape: tuple[int, int, int, int]
    fingerprint: ModelFingerprint | None = None
    latent_format: str = ""
    chunk_index: int = 0
    hold: int = 0
    history_chunks: int = 0
    events: EventLog = field(default_factory=EventLog)
    conditionings: Mapping[str, Conditioning] = field(default_factory=dict)
    origin: StreamOrigin | None = None
    sound_shape: tuple[int, int] | None = None
    clock: StreamClock | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", EventLog.of(self.events))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.latent_shape))
        return f"StreamState(next chunk {self.chunk_index}, latent {size})"

    @property
    def chunks(self) -> tuple[ChunkEvent, ...]:
        """Return the generated chunks, oldest first."""
        return tuple(event for event in self.events if isinstance(event, ChunkEvent))

    @property
    def last_chunk(self) -> ChunkEvent | None:
        """Return the newest chunk, or None before the first one."""
        return next((e for e in reversed(self.events) if isinstance(e, ChunkEvent)), None)

    @property
    def next_frame(self) -> int:
        """Count the content frames, given ones included, since the newest beginning.

        Where a few frames make a pattern, a chunk begins with one.
        """
        for event in reversed(self.events):
            if isinstance(event, ChunkEvent):
                return event.frame + event.config.chunk_frames
            if isinstance(event, GivenLatentsEvent) and event.content is not None:
                return -(-(event.frame + event.content.shape[2]) // self._pattern) * self._pattern
            if is_beginning(event):
                return event.frame if isinstance(event, GivenLatentsEvent) else 0
        return 0

    def sound_of_next(self, config: StreamConfig) -> tuple[int, int, int, int] | None:
        """Return the shape of the sound of the next chunk, (B, C, T, R), or None."""
        if self.sound_shape is None or self.clock is None:
            return None
        channels, rows = self.sound_shape
        ticks = self.clock.ticks_of(self.next_frame, config.chunk_frames)
        return self.latent_shape[0], channels, ticks, rows

    @property
    def _pattern(self) -> int:
        return 1 if self.clock is None else self.clock.pattern

    def newest_content(self) -> Tensor:
        """Return the content latents of the newest chunk, (B, C, F, H, W).

        Raises:
            LayoutError: Before the first chunk.
        """
        last = self.last_chunk
        if last is None or last.content is None:
            raise LayoutError(
                "stream",
                problem="this stream has no chunk yet",
                seen="no chunk yet",
                expected="at least one",
                remedy="make one with Stream Chunks",
            )
        return last.content

    def content(self, first_chunk: int = 0) -> Tensor | None:
        """Join the content latents that are kept, from a chunk on, (B, C, T, H, W), or None."""
        chunks = [event for event in self.kept_chunks() if event.index >= first_chunk]
        parts = [event.content for event in chunks if event.content is not None]
        return torch.cat(parts, dim=2) if parts else None

    def sound(self, first_chunk: int = 0) -> Tensor | None:
        """Join the sound latents that are kept, from a chunk on, (B, C, T, R), or None."""
        chunks = [event for event in self.kept_chunks() if event.index >= first_chunk]
        parts = [event.sound for event in chunks if event.sound is not None]
        return torch.cat(parts, dim=2) if parts else None

    def kept_chunks(self) -> tuple[ChunkEvent, ...]:
        """Return the chunks whose latents are kept, oldest first."""
        return tuple(event for _, event in kept_chunks(self.events))[::-1]

    @property
    def context(self) -> ContextLatents:
        """Return the latents behind slot 0 and the window."""
        return context_latents(self.events, self.clock)

    def hidden_states(self) -> Tensor | None:
        """Return the newest state frame of every chunk that is kept, or None.

        Returns:
            (chunks x B, C, 1, H, W): along the batch, so that each decodes to an image of its own.
        """
        states = [event.state[:, :, -1:] for event in self.chunks if event.state is not None]
        return torch.cat(states, dim=0) if states else None

    def append_chunk(self, event: ChunkEvent, conditions: Conditions) -> StreamState:
        """Return the state after one more chunk."""
        used = {conditions.positive.digest: conditions.positive}
        if conditions.negative is not None:
            used[conditions.negative.digest] = conditions.negative
        events = self.events.append(event)
        kept = trimmed(events, self.history_chunks)
        conditionings = self.conditionings
        if not used.keys() <= conditionings.keys():
            conditionings = {**conditionings, **used}
        if kept is not events:
            conditionings = pruned(conditionings, kept)
        return replace(
            self,
            chunk_index=self.chunk_index + 1,
            hold=_hold_left(self.hold),
            events=kept,
            conditionings=conditionings,
        )

    def start_with(self, content: Tensor, sound: Tensor | None = None) -> StreamState:
        """Return a stream that continues the given latents, (B, C, T, H, W), and their sound.

        Latents given before the first chunk are in VAE space: the host converts them once it
        knows the model.
        """
        heard = sound.detach().cpu().clone() if sound is not None else None
        return self._begun("start", content=self._fitting(content), sound=heard)

    def reset(self, scope: ResetScope, latent: Tensor | None = None) -> StreamState:
        """Return the state with slot 0, the window, or both emptied or seeded.

        Args:
            scope: What to reset.
            latent: Latents to seed it with, (B, C, T, H, W), in model space, or in VAE space
                before the first chunk. Slot 0 and the window take as many of its last frames
                as they hold.
        """
        if latent is None:
            return self._with(ResetEvent(scope))
        latent = self._fitting(latent)
        if scope == "all":
            return self._begun("restart", content=latent)
        if scope == "anchor":
            context = self.context
            return self._begun("reset", latent, context.window, context.sound)
        return self._begun("reset", self.context.committable, latent)

    def blend(self, other: StreamState, share: float) -> StreamState:
        """Return the state with a mix of two contexts; events and chunk numbers stay its own.

        Args:
            other: A stream of the same model and size. What only one of the two has is taken from
                that one; of windows of different lengths the newest frames count.
            share: Share of the other one, 0 to 1.

        Raises:
            StateMismatchError: If the other stream is of another model or has another size.
        """
        theirs = (other.latent_format, other.latent_shape)
        alike = theirs == (self.latent_format, self.latent_shape)
        if not alike or not _same_model(self.fingerprint, other.fingerprint):
            raise StateMismatchError(
                "the other stream",
                problem=(
                    f"these two streams cannot be blended: one is {self.described()}, the other "
                    f"{other.described()}"
                ),
                seen=other.described(),
                expected=self.described(),
                remedy="blend two streams of one model and size, both begun or both not begun",
            )
        ours, others = self.context, other.context
        anchor = _mixed(ours.committable, others.committable, share)
        window = _mixed(ours.window, others.window, share)
        if anchor is None and window is None:
            return self
        return self._begun("blend", anchor, window, _mixed(ours.sound, others.sound, share))

    def rewind(self, chunk: int) -> StreamState:
        """Return the state as it was after a chunk.

        Args:
            chunk: The last chunk that stays; negative numbers count from the newest one, -1.

        Raises:
            ConfigError: If that chunk was not made, or its latents are no longer kept.
        """
        chunk = chunk + self.chunk_index if chunk < 0 else chunk
        kept = {event.index: position for position, event in kept_chunks(self.events)}
        if chunk not in kept:
            numbers = f"{min(kept)} to {max(kept)}" if kept else "none yet"
            raise ConfigError(
                "chunk",
                problem=f"chunk {chunk} is not kept in this stream; it keeps {numbers}",
                seen=chunk,
                expected=f"a chunk whose latents are kept ({numbers})",
                remedy="change chunk on Rewind, or history_chunks on New Stream",
            )
        events = self.events.first(kept[chunk] + 1).append(RewindEvent(chunk))
        return replace(
            self,
            chunk_index=chunk + 1,
            hold=_hold_after(events),
            events=events,
            conditionings=pruned(self.conditionings, events),
        )

    def hold_anchor(self, chunks: int) -> StreamState:
        """Return the state with slot 0 held for `chunks` chunks (-1: until released)."""
        if chunks < HOLD_FOREVER:
            raise ConfigError(
                "chunks",
                problem=(
                    f"an anchor cannot be held for {chunks} chunks; -1 holds it until it is "
                    "released"
                ),
                seen=chunks,
                expected="-1 or more",
                remedy="change chunks on Hold Anchor",
            )
        return replace(self._with(HoldEvent(chunks)), hold=chunks)

    def flush(self, frames: int) -> StreamState:
        """Return the state with only slot 0 and the newest window frames kept."""
        return self._with(FlushEvent(frames))

    def recache(self) -> StreamState:
        """Return the state whose anchor and window are committed again under the next prompt."""
        context = self.context
        if context.committable is None and context.window is None:
            return self
        return self._begun("recache", context.committable, context.window, context.sound)

    def check_model(self, fingerprint: ModelFingerprint) -> None:
        """Refuse a model that did not make this stream.

        Raises:
            StateMismatchError: If the family, the channels or the base weights differ.
        """
        require_model(fingerprint, self.fingerprint, self.latent_shape[1])

    def described(self) -> str:
        """Name the model and the size, for messages."""
        size = "x".join(map(str, self.latent_shape))
        if self.fingerprint is None:
            return f"a stream that has not begun, latents {size}"
        return f"{self.fingerprint}, latents {size}"

    def _with(self, event: Event) -> StreamState:
        return replace(self, events=self.events.append(event))

    def _begun(
        self,
        reason: RootReason,
        state: Tensor | None = None,
        content: Tensor | None = None,
        sound: Tensor | None = None,
    ) -> StreamState:
        given = 0 if content is None else content.shape[2]
        if content is not None and given > self._pattern:
            # Frames of a pattern stay together, those of a beginning that was none are left out.
            given -= given % self._pattern
            content = content[:, :, -given:] if reason not in ("start", "restart") else content
        frame = 0
        if reason not in ("start", "restart"):
            end = max(self.next_frame, self._room_for(state, content))
            frame = -(-end // self._pattern) * self._pattern - given
            frame -= frame % self._pattern
        if sound is not None and self.clock is not None and content is not None:
            sound = _newest_ticks(sound, self.clock.ticks_of(frame, content.shape[2]))
        raw = not self.latent_format
        event = GivenLatentsEvent(
            reason, raw, frame=frame, state=state, content=content, sound=sound
        )
        return self._with(event)

    def _room_for(self, state: Tensor | None, content: Tensor | None) -> int:
        """Count the frames that given latents fill in slot 0 and the window.

        The stream continues after them, also where it has had fewer.
        """
        window = 0 if content is None else content.shape[2]
        last = self.last_chunk
        if last is None:
            return window
        sink = 0 if state is None else state.shape[2]
        config = last.config
        return min(sink, policy_for(config).sink_frames(config)) + min(window, config.window_frames)

    def _fitting(self, latent: Tensor) -> Tensor:
        require_size(tuple(latent.shape), self.latent_shape)
        return latent.detach().cpu().clone()  # what gave it may write to it later


def _same_model(ours: ModelFingerprint | None, theirs: ModelFingerprint | None) -> bool:
    return ours is theirs if ours is None or theirs is None else ours.matches(theirs)


def _hold_left(hold: int) -> int:
    """Return the chunks for which slot 0 is held after one more chunk."""
    return hold if hold == HOLD_FOREVER else max(hold - 1, 0)


def _hold_after(events: EventLog) -> int:
    hold = 0
    for event in events:
        if isinstance(event, HoldEvent):
            hold = event.chunks
        elif isinstance(event, ChunkEvent):
            hold = _hold_left(hold)
    return hold


def _mixed(ours: Tensor | None, theirs: Tensor | None, share: float) -> Tensor | None:
    """Mix the newest frames of both, or return what is there."""
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    frames = min(ours.shape[2], theirs.shape[2])
    return torch.lerp(ours[:, :, -frames:].float(), theirs[:, :, -frames:].float(), share).to(ours)


def _newest_ticks(sound: Tensor, ticks: int) -> Tensor:
    """Return so many of the newest latents of a sound; the oldest stands in for missing ones."""
    missing = max(ticks - sound.shape[2], 0)
    sound = torch.cat([sound[:, :, :1]] * missing + [sound], dim=2)
    return sound[:, :, sound.shape[2] - ticks :]
