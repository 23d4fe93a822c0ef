"""MiniMax H3: text, sound and video in one sequence; rotary pairs in halves of 96 channels.

Token order is text, sound (first the left side of all latents, then the right one), then frame,
row, column. Of the 128 channels of a head 96 rotate, pair i being channels i and i + 48: 16 pairs
each for time, height and width, pair j of an axis by 10000^(-j/16) radians, read off the file. The
unit of time is a latent of sound, 1/40 s. Latent frames stand for 1, 4, 4, 4 and 4 video frames of
24 a second, in turn, so that five of them are 85/3 latents of sound (`PackedLayout` in
MiniMax-AI/MiniMax-H3). Height and width are stretched over 32 x 32 places at every size.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from typing import Any, cast

from ..attention.layers import AttentionCalls, joint
from ..attention.rope import SpatialRope, TemporalRope, spatial_frequencies
from ..clock import StreamClock
from ..layout import TrackName
from .family import ModelTraits, SoundTraits, refuse, width_read

_PICTURES = (1, 4, 4, 4, 4)
"""Video frames of the latent frames of a pattern."""
_FRAME_RATE, _SOUND_RATE = 24, 40
_AREA = 32.0 * 32.0


class MiniMaxH3Family:
    """The MiniMax H3 transformer, which makes video and stereo sound."""

    label = "MiniMax H3"
    sound = SoundTraits(
        channels=32, rows=2, time_last=True, tokens=2, lanes=2, rate=float(_SOUND_RATE)
    )

    def matches(self, model: object) -> bool:
        """Recognise the class by name; one for another sound is refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name == "MiniMaxH3Model" and dit.audio_latents_dim != self.sound.channels:
            refuse(name, f"its sound has {dit.audio_latents_dim} channels", self.label)
        return name == "MiniMaxH3Model"

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and rotary frequencies off the module."""
        dit = cast(Any, model)
        attention = dit.blocks[0].attn
        frequencies = tuple(float(f) for f in dit.rope.inv_freq.float().tolist())
        pairs = len(frequencies)
        return ModelTraits(
            family="minimax-h3",
            latent_channels=dit.latents_dim,
            layers=len(dit.blocks),
            width=attention.heads * attention.head_dim,
            heads=attention.heads,
            patch=(dit.patch_size[1], dit.patch_size[2]),
            rope=TemporalRope((frequencies,), "half", channels=6 * pairs),
            calls=_calls("text", "sound", "video"),
            silent_calls=_calls("text", "video"),
            time_stride=Fraction(sum(_PICTURES), len(_PICTURES)),
            short_first=False,
            spatial_rope=SpatialRope(
                *spatial_frequencies(pairs, frequencies, frequencies),
                "half",
                area=_AREA,
                channels=6 * pairs,
            ),
            fills_up=True,
            text_width=width_read(dit, "condition_proj"),
            more_text_widths=(dit.hidden_size,),
            can_place=True,
            sound=self.sound,
            clock=_clock(),
            one_at_a_time=True,
        )


def _calls(*tracks: TrackName) -> AttentionCalls:
    """Return the calls of a forward; later ComfyUI versions name blocks by their number alone."""
    named = (("double", 0), (None, 0))
    return AttentionCalls(blocks=named, per_block=1, of_block=(joint(*tracks),))


def _clock() -> StreamClock:
    tick = Fraction(_SOUND_RATE, _FRAME_RATE)
    ends = [tick * pictures for pictures in accumulate(_PICTURES)]
    return StreamClock((Fraction(0), *ends[:-1]), ends[-1])
