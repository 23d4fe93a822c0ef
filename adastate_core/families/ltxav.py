"""LTX-2: a video and its sound, which attend to each other; cross-attended text.

A layer makes six attention calls: the video to itself and to text, the sound to itself and to text,
the video to the sound, and the sound to the video. A video without sound makes the first two. The
video turns in triples of pairs for time, height and width, the sound and both cross calls with time
alone, over the width of the sound. Pairs run through all heads together and are interleaved or, in
the published files, in halves of a head (`LTXModel` in Lightricks/LTX-2).

Positions are the middles of what a latent stands for, in seconds; the unit here is a latent of
sound, 1/25 s. Latent frame f > 0 has the video frames 8 f - 7 to 8 f, at the rate that the prompt
says, and its middle at (8 f - 3) / rate; latent j > 0 of the sound has its own at (j - 1/4) / 25.
The first of each is shorter. A stream places all of them evenly, as if those were as long as the
others, and counts from 3 video frames before: then frame f is at 8 f / rate.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

from ..attention.layers import AttentionCalls, LayerCall
from ..attention.rope import Frequencies, Pairing, SpatialRope, TemporalRope
from ..clock import StreamClock
from ..layout import TrackName
from .family import ModelTraits, SoundTraits, refuse
from .ltxv import spread

_STRIDE, _FRAME_RATE, _SOUND_RATE, _THETA = 8, 25, 25, 10000.0
_MIDDLE = Fraction(_STRIDE - 1, 2 * _STRIDE)
"""Where the first frame is, in latent frames: in the middle of the first picture of 8."""
_PAIRINGS: dict[str, Pairing] = {"interleaved": "interleaved", "split": "half"}


class Ltx2Family:
    """The LTX-2 transformers, which make video and sound."""

    label = "LTX-2.0, 2.3 or 2.5"
    sound = SoundTraits(
        channels=8,
        rows=16,
        time_last=False,
        tokens=1,
        lanes=1,
        rate=float(_SOUND_RATE),
        optional=True,
        first_later=Fraction(3, 8),
    )

    def matches(self, model: object) -> bool:
        """Recognise the class by name; one that places frames or sounds otherwise is refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name != "LTXAVModel":
            return False
        if not (dit.causal_temporal_positioning and dit.use_middle_indices_grid):
            reason = "its file lacks the header that says where frames are in time"
            refuse(name, reason, self.label)
        seen = (dit.num_audio_channels, dit.audio_frequency_bins, dit.vae_scale_factors[0])
        if seen != (self.sound.channels, self.sound.rows, _STRIDE):
            refuse(name, "its latents stand for other lengths of video or sound", self.label)
        return True

    def describe(self, model: object) -> ModelTraits:
        """Read sizes off the module, and frequencies as it makes them for itself."""
        dit = cast(Any, model)
        pairing = _PAIRINGS[getattr(dit.split_positional_embedding, "value", "interleaved")]
        seconds, rows, columns = dit.positional_embedding_max_pos
        _, down, along = dit.vae_scale_factors
        both = dit.cross_attention_dim + dit.audio_cross_attention_dim
        steps = (1 / (_SOUND_RATE * seconds), down / rows, along / columns)
        time, vertical, horizontal = (_of_video(dit, axis, step) for axis, step in enumerate(steps))
        return ModelTraits(
            family="ltx-2",
            latent_channels=dit.in_channels,
            layers=len(dit.transformer_blocks),
            width=dit.inner_dim,
            heads=dit.num_attention_heads,
            patch=(1, 1),
            rope=TemporalRope(time, pairing),
            calls=_calls(dit, pairing),
            silent_calls=AttentionCalls(per_block=2),
            time_stride=_STRIDE,
            first_index=float(_MIDDLE),
            spatial_rope=SpatialRope(vertical, horizontal, pairing),
            sound=self.sound,
            clock=_clock(Fraction(_FRAME_RATE)),
            clock_at=_clock,
            text_width=both if dit.caption_proj_before_connector else dit.caption_channels,
            more_text_widths=(both, 2 * dit.caption_channels),
            unprepared="unprocessed_ltxav_embeds",
            compiles=False,  # its frequencies are computed by NumPy
            mask_is_noise=True,
        )


def _calls(model: object, pairing: Pairing) -> AttentionCalls:
    """Return the calls of a layer."""
    dit = cast(Any, model)
    heard, seconds = dit.audio_positional_embedding_max_pos[0], dit.positional_embedding_max_pos[0]

    def call(name: str, queries: TrackName, keys: TrackName, width: int, span: int) -> LayerCall:
        heads = dit.audio_num_attention_heads
        rope = TemporalRope(_of_sound(dit, width, span), pairing)
        return LayerCall(name, (queries,), (keys,), rope, in_space=False, width=width, heads=heads)

    own, cross = dit.audio_inner_dim, dit.audio_cross_attention_dim
    both = max(heard, seconds)
    return AttentionCalls(
        per_block=6,
        of_block=(
            LayerCall("video"),
            None,
            call("sound", "sound", "sound", own, heard),
            None,
            call("video-to-sound", "video", "sound", cross, both),
            call("sound-to-video", "sound", "video", cross, both),
        ),
    )


def _clock(frame_rate: Fraction) -> StreamClock:
    """Return the clock of a frame rate.

    Latent frame f begins with video frame 8 f - 7. Latent j of the sound ends at j + 1/4, and
    belongs to the frame in which it ends: no sound is made before its pictures. Middles of the
    video are 3 video frames before 8 f, those of the sound 1/4 before j.
    """
    picture = Fraction(_SOUND_RATE) / frame_rate
    return StreamClock(
        (Fraction(0),),
        _STRIDE * picture,
        early=(_STRIDE - 1) * picture + Fraction(1, 4),
        sound_at=(_STRIDE // 2 - 1) * picture - Fraction(1, 4),
    )


def _of_video(model: object, axis: int, step: float) -> Frequencies:
    """Return the frequencies of an axis of the video; `step` is a step as a part of its range."""
    dit = cast(Any, model)
    speeds = [2.0 * step * speed for speed in _speeds(dit, 3, dit.inner_dim)]
    return spread(speeds, axis, 3, dit.inner_dim, dit.num_attention_heads)


def _of_sound(model: object, width: int, seconds: float) -> Frequencies:
    """Return the frequencies of time alone over so many channels and seconds."""
    dit = cast(Any, model)
    speeds = [2.0 / (_SOUND_RATE * seconds) * speed for speed in _speeds(dit, 1, width)]
    return spread(speeds, 0, 1, width, dit.audio_num_attention_heads)


def _speeds(model: object, axes: int, width: int) -> list[float]:
    """Return radians per unit of a position from -1 to 1, rounded as the model rounds them."""
    dit = cast(Any, model)
    speeds: list[float] = dit.freq_grid_generator(_THETA, axes, width, "cpu").double().tolist()
    return speeds
