"""What a descriptor of a family says about a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NoReturn, Protocol

from torch import Tensor

from ..attention.geometry import AttentionGeometry, Track
from ..attention.layers import AttentionCalls, LayerCall
from ..attention.rope import SpatialRope, TemporalRope
from ..clock import StreamClock
from ..errors import UnsupportedFamilyError
from ..layout import TrackName


@dataclass(frozen=True, slots=True)
class SoundTraits:
    """What streaming has to know about the sound that a model makes along with the video.

    Args:
        channels: Channels of its latents.
        rows: Numbers that a latent has of each channel: of stereo one a side, or frequencies.
        time_last: Whether the model has time behind the rows, not in front of them.
        tokens: Tokens of one latent.
        lanes: Runs in which the model has them, see `Track`.
        rate: Latents in a second.
        optional: Whether the host leaves it out of a forward that has none.
        first_later: By how much later than the others the model places the first latent of a
            block, in latents.
    """

    channels: int
    rows: int
    time_last: bool
    tokens: int
    lanes: int
    rate: float
    optional: bool = False
    first_later: Fraction = Fraction(0)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Say whether latents in the order of the model are of such a sound."""
        rows = shape[2 if self.time_last else 3] if len(shape) == 4 else 0
        return len(shape) == 4 and shape[1] == self.channels and rows == self.rows

    @property
    def track(self) -> Track:
        """Return the track of the sound."""
        return Track("sound", self.tokens, self.lanes)

    def to_model(self, sound: Tensor) -> Tensor:
        """Bring (B, C, T, R) to the order of the model."""
        return sound.transpose(2, 3) if self.time_last else sound

    def from_model(self, sound: Tensor) -> Tensor:
        """Bring sound in the order of the model to (B, C, T, R)."""
        return sound.transpose(2, 3) if self.time_last else sound

    def empty(self, video: Tensor) -> Tensor:
        """Return the sound of a block that has none, (B, C, 0, R)."""
        return video.new_empty((video.shape[0], self.channels, 0, self.rows))


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What streaming has to know about one loaded model.

    Args:
        family: Name of the family.
        latent_channels: Channels of its latents.
        layers: Layers whose attention sees the past.
        width: Channels of keys, all heads together; values have as many.
        patch: Latent rows and columns that one token covers.
        rope: Rotary channels of the temporal axis; its unit is a tick where there is a clock, a
            latent frame where there is none.
        calls: Which attention calls of a forward see the past, and which tracks they join.
        can_shift: Whether the host can make the model number its frames from another origin.
        time_stride: Video frames of one latent frame, on average.
        short_first: Whether the first latent frame of a video is one video frame.
        first_index: Where the model puts the first frame of a block, in latent frames.
        frame_rate: Video frames per second for which `rope` holds, where positions are in seconds;
            None where they are in frames.
        spatial_rope: Rotary channels of the two spatial axes; None if they are not known.
        needs_image: Whether it takes an image with every frame and was not trained without.
        heads: Heads of its self-attention.
        fills_up: Whether the host pads a latent that is no whole number of patches; others fail on
            it.
        text_width: Numbers of a text token as its text encoder gives them; 0 if that is not known.
        more_text_widths: Those of text that has been through a part of the model already, and that
            it takes as it is.
        unprepared: What the host notes beside a text that has not been through that part, where it
            does; empty where the width says so.
        compiles: Whether its class can be compiled while a stream has its attention.
        mask_is_noise: Whether the host takes a mask on a prompt for noise levels of the frames.
        can_place: Whether the host can put every unit of a block at any place in time.
        sound: What the sound is like that it makes along with the video; None if it makes none.
        silent_calls: Its calls in a stream without sound; None where it makes no sound at all.
        clock: Where frames and sound are in time; None for a model whose frames are all alike and
            that makes no sound.
        one_at_a_time: Whether it makes a single video at a time.
        clock_at: Makes the clock of a frame rate, where places in time follow from the one that a
            prompt says; `clock` is that of the host's default.
    """

    family: str
    latent_channels: int
    layers: int
    width: int
    patch: tuple[int, int]
    rope: TemporalRope
    calls: AttentionCalls
    time_stride: int | Fraction
    can_shift: bool = False
    first_index: float = 0.0
    frame_rate: float | None = None
    spatial_rope: SpatialRope | None = None
    needs_image: bool = False
    heads: int = 1
    fills_up: bool = False
    text_width: int = 0
    short_first: bool = True
    can_place: bool = False
    sound: SoundTraits | None = None
    silent_calls: AttentionCalls | None = None
    clock: StreamClock | None = None
    one_at_a_time: bool = False
    clock_at: Callable[[Fraction], StreamClock] | None = None
    more_text_widths: tuple[int, ...] = ()
    unprepared: str = ""
    compiles: bool = True
    mask_is_noise: bool = False

    def at(self, frame_rate: Fraction) -> ModelTraits:
        """Return the traits at a frame rate; of most models they are the same at all."""
        return self if self.clock_at is None else replace(self, clock=self.clock_at(frame_rate))

    def frame_rate_of(self, clock: StreamClock) -> Fraction:
        """Return the video frames per second of a stream with sound by its clock."""
        assert self.sound is not None
        return self.time_stride * clock.pattern * Fraction(self.sound.rate) / clock.period

    def geometry(self, height: int, width: int, *, sound: bool = False) -> AttentionGeometry:
        """Return how the model numbers frames of a latent height and width.

        Args:
            height: Latent height.
            width: Latent width.
            sound: Whether the stream has sound.
        """
        rows, columns = -(-height // self.patch[0]), -(-width // self.patch[1])
        heard = self.sound.track if sound and self.sound is not None else None
        calls = self.calls if heard or self.silent_calls is None else self.silent_calls
        return AttentionGeometry(
            layers=self.layers,
            tokens_per_frame=rows * columns,
            columns=columns,
            rope=self.rope,
            calls=calls,
            can_shift=self.can_shift,
            first_index=self.first_index,
            spatial_rope=self.spatial_rope,
            can_place=self.can_place,
            sound=heard,
            clock=self.clock,
            first_tick=self._first_tick if heard else None,
        )

    @property
    def _first_tick(self) -> float | None:
        if self.sound is None or self.clock is None or not self.sound.first_later:
            return None
        return float(self.clock.sound_at + self.sound.first_later)

    @property
    def pattern(self) -> int:
        """Count the latent frames after which places in time repeat."""
        return 1 if self.clock is None else self.clock.pattern

    def cache_scales(self, frames: int, ticks: int | None = None) -> int:
        """Count the scales of keys and values in fp8, in all layers.

        Args:
            frames: Latent frames of the video.
            ticks: Latents of the sound; None in a stream without.
        """
        units = {"video": frames, "sound": ticks or 0}
        of_calls = ((call.heads or self.heads, track) for call, track in self._cached(ticks))
        return 2 * self.layers * sum(heads * units[track] for heads, track in of_calls)

    def takes(self, height: int, width: int) -> bool:
        """Say whether the model runs on latents of this height and width."""
        return self.fills_up or not (height % self.patch[0] or width % self.patch[1])

    def cache_values(self, height: int, width: int, frames: int, ticks: int | None = None) -> int:
        """Count the numbers that keys and values consist of, in all layers.

        Args:
            height: Latent height.
            width: Latent width.
            frames: Latent frames of the video.
            ticks: Latents of the sound; None in a stream without.
        """
        tokens = {"video": self.geometry(height, width).tokens_per_frame * frames}
        tokens["sound"] = 0 if self.sound is None else self.sound.tokens * (ticks or 0)
        of_calls = ((call.width or self.width, track) for call, track in self._cached(ticks))
        return 2 * self.layers * sum(channels * tokens[track] for channels, track in of_calls)

    def text_values(self, tokens: int) -> int:
        """Count the numbers that keys and values of so many tokens of text have, in all layers."""
        calls = [call for call in self.calls.tracked if "text" in call.keys]
        return 2 * self.layers * sum(call.width or self.width for call in calls) * tokens

    def _cached(self, ticks: int | None) -> Iterator[tuple[LayerCall, TrackName]]:
        """Yield the calls of a layer that attend to the past, with each track that they keep."""
        silent = self.silent_calls if ticks is None else None
        for call in (silent or self.calls).tracked:
            yield from ((call, track) for track in call.past)


class Family(Protocol):
    """The descriptor of one architecture: it recognises models and describes them."""

    @property
    def label(self) -> str:
        """Name the family as an artist knows it."""
        ...

    @property
    def sound(self) -> SoundTraits | None:
        """Say what the sound is like that its models make; None if they make none."""
        ...

    def matches(self, model: object) -> bool:
        """Say whether a module is of this family; a variant it cannot serve is refused.

        Raises:
            UnsupportedFamilyError: If the module is a variant that cannot be streamed.
        """
        ...

    def describe(self, model: object) -> ModelTraits:
        """Describe a module that matches."""
        ...


def width_read(model: object, path: str) -> int:
    """Return how many numbers a linear layer of a module reads; 0 if there is no such layer.

    Args:
        model: The module.
        path: Names of attributes and numbers of items, joined by full stops.
    """
    part: Any = model
    for name in path.split("."):
        try:
            part = part[int(name)] if name.isdigit() else getattr(part, name)
        except (AttributeError, IndexError, TypeError):
            return 0
    width = getattr(part, "in_features", 0)
    return width if isinstance(width, int) else 0


def refuse(name: str, reason: str, served: str) -> NoReturn:
    """Raise the error for a model that is known and cannot be streamed."""
    raise UnsupportedFamilyError(
        "model",
        problem=f"AdaState cannot stream {name}: {reason}",
        seen=f"{name} ({reason})",
        expected=served,
        remedy=f"load {served} weights in Load Streaming Model",
    )
