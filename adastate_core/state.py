"""The stream as a value: everything a stream is, except what can be computed from it.

A `StreamState` is immutable and holds no keys and values. It records the clean latents of
every chunk, the conditionings used, and an entry for every thing that happened, from which
`history` and `rollout` rebuild the attention cache. Every operation returns a new state and
shares the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from .conditioning import Conditioning
from .config import StreamConfig
from .errors import ConfigError, LayoutError, StateMismatchError

HOLD_FOREVER = -1

ResetScope = Literal["anchor", "window", "all"]
RootReason = Literal["start", "reset", "recache"]


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """Identify base weights: a family, its latent channels, and a digest of the weights."""

    family: str
    latent_channels: int
    digest: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """Pair the conditionings of a step; `guided` says whether the negative one is computed."""

    positive: Conditioning
    negative: Conditioning | None = None
    guided: bool = False


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """Record one generated chunk; also its receipt.

    Args:
        index: Absolute chunk index.
        seed: Seed of the step that made it.
        positive: Digest of the positive conditioning.
        negative: Digest of the negative conditioning, or None.
        weights: Digest of the weight patches (LoRA) in effect.
        config: Options in effect.
        held: Whether its commit leaves slot 0 alone.
        approximate: Whether the cache it attended to was rebuilt from less than the full record,
            or with other weights than those recorded.
        latents: Digest of its latents, which outlives them in a bounded history.
        state: Clean state latents, (B, C, F_s, H, W) in model space; None if there are none or
            they are beyond the bounded history.
        content: Clean content latents, (B, C, F, H, W) in model space; None beyond the history.
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
    state: Tensor | None = field(default=None, repr=False)
    content: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RootEntry:
    """Restart the cache from given latents, committed with nothing before them.

    Args:
        reason: What made it.
        raw: Whether the latents still are in VAE space: they were given before any model.
        state: Latents of slot 0, (B, C, T, H, W), or None.
        content: Latents of the window, (B, C, T, H, W).
    """

    reason: RootReason
    raw: bool = False
    state: Tensor | None = field(default=None, repr=False)
    content: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ResetEntry:
    """Empty slot 0, the window, or both."""

    scope: ResetScope


@dataclass(frozen=True, slots=True)
class HoldEntry:
    """Leave slot 0 alone for a number of chunks; -1 means until released, 0 releases it."""

    chunks: int


@dataclass(frozen=True, slots=True)
class FlushEntry:
    """Keep slot 0 and the newest window frames only."""

    frames: int


Entry = ChunkEntry | RootEntry | ResetEntry | HoldEntry | FlushEntry


@dataclass(frozen=True, slots=True, repr=False)
class StreamState:
    """Carry a stream from one chunk to the next.

    Args:
        latent_shape: (B, C, H, W) of one latent frame.
        fingerprint: The model that made it; None before the first chunk.
        latent_format: The host's name for the scaling between VAE space and model space; empty
            before the first chunk.
        chunk_index: Absolute index of the next chunk.
        hold: Chunks for which slot 0 is still held; -1 until released.
        history_chunks: Chunks whose latents are kept; 0 keeps all.
        entries: Everything that happened, oldest first.
        conditionings: Every conditioning in use, by digest.
    """

    latent_shape: tuple[int, int, int, int]
    fingerprint: ModelFingerprint | None = None
    latent_format: str = ""
    chunk_index: int = 0
    hold: int = 0
    history_chunks: int = 0
    entries: tuple[Entry, ...] = ()
    conditionings: Mapping[str, Conditioning] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.latent_shape))
        return f"StreamState(next chunk {self.chunk_index}, latent {size})"

    @property
    def chunks(self) -> tuple[ChunkEntry, ...]:
        """Return the generated chunks, oldest first."""
        return tuple(entry for entry in self.entries if isinstance(entry, ChunkEntry))

    @property
    def last_chunk(self) -> ChunkEntry | None:
        """Return the newest chunk, or None before the first one."""
        return next((e for e in reversed(self.entries) if isinstance(e, ChunkEntry)), None)

    def newest_content(self) -> Tensor:
        """Return the content latents of the newest chunk, (B, C, F, H, W).

        Raises:
            LayoutError: Before the first chunk.
        """
        last = self.last_chunk
        if last is None or last.content is None:
            raise LayoutError(
                "stream", seen="no chunk yet", expected="at least one", remedy="stream a chunk"
            )
        return last.content

    def content(self) -> Tensor | None:
        """Join the recorded content latents, (B, C, T, H, W), or None without any."""
        parts = [entry.content for entry in self.chunks if entry.content is not None]
        return torch.cat(parts, dim=2) if parts else None

    def hidden_state(self) -> Tensor | None:
        """Return the newest hidden state, (B, C, F_s, H, W), or None without one."""
        states = (e.state for e in reversed(self.entries) if isinstance(e, ChunkEntry | RootEntry))
        return next((state for state in states if state is not None), None)

    def hidden_states(self) -> Tensor | None:
        """Return the newest state frame of every recorded chunk, one a batch entry.

        Returns:
            (chunks x B, C, 1, H, W), so that each decodes alone as one picture, or None.
        """
        states = [entry.state[:, :, -1:] for entry in self.chunks if entry.state is not None]
        return torch.cat(states, dim=0) if states else None

    def window(self) -> Tensor | None:
        """Return the newest content latents that the window keeps, or None without any."""
        last, content = self.last_chunk, self.content()
        if last is None or content is None or last.config.window_frames == 0:
            return None
        return content[:, :, -last.config.window_frames :]

    def append(self, entry: ChunkEntry, conditions: Conditions) -> StreamState:
        """Return the state after one more chunk."""
        used = {conditions.positive.digest: conditions.positive}
        if conditions.negative is not None:
            used[conditions.negative.digest] = conditions.negative
        hold = self.hold if self.hold == HOLD_FOREVER else max(self.hold - 1, 0)
        entries = _trim((*self.entries, entry), self.history_chunks)
        return replace(
            self,
            chunk_index=self.chunk_index + 1,
            hold=hold,
            entries=entries,
            conditionings=_prune({**self.conditionings, **used}, entries),
        )

    def started_with(self, content: Tensor) -> StreamState:
        """Return a stream that continues the given latents, (B, C, T, H, W) in model space."""
        return self._rooted(RootEntry("start", content=self._fitting(content)))

    def reset(self, scope: ResetScope, latent: Tensor | None = None) -> StreamState:
        """Return the state with slot 0, the window, or both emptied or seeded.

        Args:
            scope: What to reset.
            latent: Latents to seed it with, (B, C, T, H, W) in model space. The last frame
                becomes the anchor, all frames become the window, as the scope says.
        """
        if latent is None:
            return replace(self, entries=(*self.entries, ResetEntry(scope)))
        latent = self._fitting(latent)
        anchor = latent[:, :, -1:] if scope != "window" else self.hidden_state()
        content = latent if scope != "anchor" else self.window()
        if content is None:
            # Before the first chunk there is no window: the seed is all there is to commit.
            content = latent
        return self._rooted(RootEntry("reset", state=anchor, content=content))

    def held(self, chunks: int) -> StreamState:
        """Return the state with slot 0 held for `chunks` chunks (-1: until released)."""
        if chunks < HOLD_FOREVER:
            raise ConfigError(
                "chunks", seen=chunks, expected="-1 or more", remedy="change chunks on Hold Anchor"
            )
        return replace(self, hold=chunks, entries=(*self.entries, HoldEntry(chunks)))

    def flushed(self, frames: int) -> StreamState:
        """Return the state with only slot 0 and the newest window frames kept."""
        return replace(self, entries=(*self.entries, FlushEntry(frames)))

    def recached(self) -> StreamState:
        """Return the state whose anchor and window are committed again under the next prompt."""
        content = self.window()
        if content is None:
            return self
        return self._rooted(RootEntry("recache", state=self.hidden_state(), content=content))

    def check_model(self, fingerprint: ModelFingerprint) -> None:
        """Refuse a model that did not make this stream.

        Raises:
            StateMismatchError: If the family, the channels or the base weights differ.
        """
        if self.latent_shape[1] != fingerprint.latent_channels:
            raise StateMismatchError(
                "latent channels of the stream",
                seen=self.latent_shape[1],
                expected=f"{fingerprint.latent_channels} for this model",
                remedy="make the latent of New Stream with the empty latent node of this model",
            )
        if self.fingerprint not in (None, fingerprint):
            assert self.fingerprint is not None
            raise StateMismatchError(
                "model of the stream",
                seen=f"{fingerprint.family} {fingerprint.digest[:8]}",
                expected=f"{self.fingerprint.family} {self.fingerprint.digest[:8]}",
                remedy="load the model that made this state, or start a new stream",
            )

    def _rooted(self, entry: RootEntry) -> StreamState:
        return replace(self, entries=(*self.entries, entry))

    def _fitting(self, latent: Tensor) -> Tensor:
        batch, channels, height, width = self.latent_shape
        seen = tuple(latent.shape)
        if len(seen) != 5 or (*seen[:2], *seen[3:]) != (batch, channels, height, width):
            raise LayoutError(
                "latent shape",
                seen=seen,
                expected=f"({batch}, {channels}, frames, {height}, {width})",
                remedy="encode the picture or clip at the size of the stream",
            )
        return latent.detach().cpu()


def _trim(entries: tuple[Entry, ...], history_chunks: int) -> tuple[Entry, ...]:
    """Forget the latents of chunks beyond the bounded history; their receipts stay."""
    if history_chunks == 0:
        return entries
    with_latents = [
        i for i, e in enumerate(entries) if isinstance(e, ChunkEntry) and e.content is not None
    ]
    old = set(with_latents[: len(with_latents) - history_chunks])
    return tuple(
        replace(e, state=None, content=None) if i in old else e  # type: ignore[arg-type]
        for i, e in enumerate(entries)
    )


def _prune(
    conditionings: Mapping[str, Conditioning], entries: tuple[Entry, ...]
) -> dict[str, Conditioning]:
    used = {
        digest
        for e in entries
        if isinstance(e, ChunkEntry) and e.content is not None
        for digest in (e.positive, e.negative)
    }
    return {digest: value for digest, value in conditionings.items() if digest in used}
