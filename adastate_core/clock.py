"""When the latent frames of a stream begin, and which latents of sound belong to them.

Time is counted in ticks, latents of sound; it is the unit in which a model with sound places both.
A tick belongs to the latent frame in which it begins. That follows from where the frame stands in
the stream, in whole fractions, so that sound does not drift away from the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class StreamClock:
    """The time of the latent frames and of the sound of a stream.

    >>> clock = StreamClock((Fraction(0), Fraction(5, 3)), Fraction(25, 3))  # 1 and 4 pictures
    >>> [str(clock.start(frame)) for frame in range(4)]
    ['0', '5/3', '25/3', '10']
    >>> [clock.ticks(frame) for frame in range(4)]
    [2, 7, 1, 7]

    Args:
        starts: Where the latent frames of one pattern begin, in ticks; a model whose frames stand
            for different numbers of pictures repeats a pattern.
        period: Ticks of a pattern.
        early: By how much the sound of a frame begins before it.
        sound_at: Where the model places a tick that begins when a frame does, seen from that
            frame.
    """

    starts: tuple[Fraction, ...]
    period: Fraction
    early: Fraction = Fraction(0)
    sound_at: Fraction = Fraction(0)

    @property
    def pattern(self) -> int:
        """Count the frames after which places in time repeat."""
        return len(self.starts)

    def start(self, frame: int) -> Fraction:
        """Return where a frame begins; those before the first one, too."""
        group, place = divmod(frame, self.pattern)
        return group * self.period + self.starts[place]

    def place(self, index: float) -> float:
        """Return the place of a temporal index, which may lie between two frames."""
        whole = math.floor(index)
        if whole == index:
            return float(self.start(whole))
        return float(
            self.start(whole)
            + (self.start(whole + 1) - self.start(whole)) * Fraction(index - whole)
        )

    def first_tick(self, frame: int) -> int:
        """Return the first tick that belongs to a frame or a later one."""
        return max(0, math.ceil(self.start(frame) - self.early))

    def ticks(self, frame: int) -> int:
        """Count the ticks that belong to a frame."""
        return self.first_tick(frame + 1) - self.first_tick(frame)

    def ticks_of(self, first: int, frames: int) -> int:
        """Count the ticks that belong to some frames."""
        return self.first_tick(first + frames) - self.first_tick(first)

    def most_ticks(self, frames: int) -> int:
        """Count the ticks that so many frames have at most, wherever in a stream they begin."""
        # Past the first frames, which may have fewer, all comes again after so many.
        begins = range(self.pattern, self.pattern * (1 + self.period.denominator))
        return max(self.ticks_of(first, frames) for first in begins)

    def phases(self, frame: int) -> tuple[float, ...]:
        """Return where the ticks of a frame are placed, seen from the frame."""
        ticks = range(self.first_tick(frame), self.first_tick(frame + 1))
        return tuple(float(tick + self.sound_at - self.start(frame)) for tick in ticks)
