"""How a model orders, numbers and rotates the tokens of a block.

A block is a few tracks: the latent frames of the video, latents of the sound that belongs to them,
and, in models with joint attention, text. All of them attend to the past and to the current block;
keys and values of the video and of the sound enter the cache, those of the text do not. That is
causal, but it is not what a model that was trained on whole videos has seen: there the text of the
first frames had already attended to the last ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..clock import StreamClock
from ..layout import TrackName
from .layers import AttentionCalls, LayerCall
from .rope import SpatialRope, TemporalRope


@dataclass(frozen=True, slots=True)
class Track:
    """A sequence of units of a block that have latents.

    Args:
        name: Name of the track.
        tokens: Tokens of a unit: of a latent frame of the video, of a latent of the sound.
        lanes: Runs in which the model has the tokens of all units: with 1 unit after unit, with 2
            first the first half of each, then the second.
    """

    name: TrackName
    tokens: int
    lanes: int = 1

    def by_unit(self, x: Tensor) -> Tensor:
        """Bring tokens (B, S, H, D) of this track from the model's order to unit after unit."""
        if self.lanes == 1:
            return x
        units, run = x.shape[1] // self.tokens, self.tokens // self.lanes
        runs: Tensor = x.unflatten(1, (self.lanes, units, run))
        return runs.transpose(1, 2).flatten(1, 3)

    def rotate_(self, x: Tensor, rope: TemporalRope, offsets: tuple[float, ...]) -> None:
        """Rotate every unit of (B, S, H, D) in the model's order by its offset, in place."""
        for lane in range(self.lanes):
            size = x.shape[1] // self.lanes
            rope.rotate_(x[:, lane * size : (lane + 1) * size], offsets)


@dataclass(frozen=True, slots=True)
class AttentionGeometry:
    """The attention of a model on latents of one height and width.

    Args:
        layers: Layers whose attention sees the past.
        tokens_per_frame: Tokens of one latent frame, in row-major order, frames outermost.
        columns: Tokens of a row.
        rope: Rotary channels of the temporal axis.
        calls: Which attention calls of a forward see the past, and which tracks they join.
        can_shift: Whether the host can make the model number its frames from another origin.
        first_index: Temporal index that the model gives the first frame of a block; the others are
            at 1, 2, and so on. Not 0 for models that place a video's first, shorter frame apart.
        spatial_rope: Rotary channels of the two spatial axes, None if they are not known.
        can_place: Whether the host can put every unit of the block at any place in time.
        sound: The track of the sound, None if the block has none.
        clock: Where frames and sound are in time, in the unit of `rope`; None for a model without
            sound whose unit is a frame.
        first_tick: Place that the model gives the first latent of the sound of a block; the others
            are as far behind each other as ticks. None where that one is no exception.
    """

    layers: int
    tokens_per_frame: int
    columns: int
    rope: TemporalRope
    calls: AttentionCalls = field(default_factory=AttentionCalls)
    can_shift: bool = False
    first_index: float = 0.0
    spatial_rope: SpatialRope | None = None
    can_place: bool = False
    sound: Track | None = None
    clock: StreamClock | None = None
    first_tick: float | None = None

    def native(self, origin: int, frames: int) -> tuple[float, ...]:
        """Return the temporal indices that the model gives the frames of a block."""
        indices: tuple[float, ...] = tuple(range(origin, origin + frames))
        return (self.first_index, *indices[1:]) if self.first_index else indices

    def place(self, index: float) -> float:
        """Return the place in time, in the unit of `rope`, of a temporal index."""
        return index if self.clock is None else self.clock.place(index)

    def places(self, origin: int, frames: int, ticks: int) -> dict[TrackName, tuple[float, ...]]:
        """Return the places in time that the model gives every unit of a block by itself.

        Args:
            origin: Temporal index from which it numbers the frames.
            frames: Frames of the block.
            ticks: Latents of its sound.
        """
        found: dict[TrackName, tuple[float, ...]] = {
            "video": tuple(self.place(index) for index in self.native(origin, frames))
        }
        if self.sound is not None:
            at = float(self.clock.sound_at) if self.clock is not None else 0.0
            places = tuple(tick + at for tick in range(ticks))
            found["sound"] = (
                places if self.first_tick is None else (self.first_tick, *places[1:])[:ticks]
            )
        return found

    @property
    def pattern(self) -> int:
        """Count the frames after which places in time repeat."""
        return 1 if self.clock is None else self.clock.pattern

    @property
    def video(self) -> Track:
        """Return the track of the latent frames."""
        return Track("video", self.tokens_per_frame)

    @property
    def tracks(self) -> dict[TrackName, Track]:
        """Return the tracks that have latents, by name."""
        return (
            {"video": self.video}
            if self.sound is None
            else {"video": self.video, "sound": self.sound}
        )

    def sizes(self, units: Mapping[TrackName, tuple[float, ...]]) -> dict[TrackName, int]:
        """Count the tokens of some units of every track."""
        return {name: len(of) * self.tracks[name].tokens for name, of in units.items()}

    @property
    def needs_sound(self) -> bool:
        """Whether a model makes other calls on a block without sound."""
        tracks = ({*call.queries, *call.keys} for call in self.calls.tracked)
        return self.sound is not None and any("video" not in of for of in tracks)

    @property
    def has_text(self) -> bool:
        """Whether text takes part in an attention that sees the past."""
        return any("text" in call.queries for call in self.calls.tracked)

    def rope_of(self, call: LayerCall) -> TemporalRope:
        """Return the rotary channels of the temporal axis in a call."""
        return call.rope or self.rope


def parts(
    names: tuple[TrackName, ...], sizes: Mapping[TrackName, int], tokens: int
) -> Iterator[tuple[TrackName, slice]]:
    """Yield where the tracks of a call lie among its tokens.

    Args:
        names: The tracks, in the order of their tokens.
        sizes: Tokens of those with latents; text has what is left.
        tokens: Tokens of the call.
    """
    left = tokens - sum(sizes.get(name, 0) for name in names)
    at = 0
    for name in names:
        size = sizes.get(name, left)
        yield name, slice(at, at + size)
        at += size
