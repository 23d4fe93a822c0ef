"""Encoders of video files: which there are, and how each is told to hold no frame back."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Literal

import av
from av.error import FFmpegError

from ...adastate_core.errors import ConfigError, VideoFileError

Codec = Literal["h264", "h265", "h264_nvenc", "hevc_nvenc"]
ENCODERS: dict[Codec, str] = {
    "h264": "libx264",
    "h265": "libx265",
    "h264_nvenc": "h264_nvenc",
    "hevc_nvenc": "hevc_nvenc",
}
"""The artist's choices, and what PyAV calls them."""
_TAGS: dict[Codec, tuple[bytes, bytes]] = dict.fromkeys(("h265", "hevc_nvenc"), (b"hev1", b"hvc1"))
_GLOBAL_HEADER = 1 << 22
_BT709 = 1
_PROBE = (256, 256)
"""A size that every encoder takes; those of cards take no smaller one than about 160 x 64."""


def tag_of(codec: Codec) -> tuple[bytes, bytes] | None:
    """Return the tag that a file has to be given, after the one that it gets by itself.

    Players of Apple take H.265 only where the parameters of the encoder are in the header alone.
    """
    return _TAGS.get(codec)


def encoder_options(codec: Codec, crf: float) -> dict[str, str]:
    """Return options with which no frame waits for later ones, so that a part is complete.

    Args:
        codec: A key of `ENCODERS`.
        crf: Quality, 0 to 51, the lower the better. Encoders of NVIDIA cards have no such scale:
            each of their frames gets the whole number next to it as its quantiser.
    """
    name = ENCODERS[codec]
    if name.endswith("_nvenc"):
        quality = {"rc": "constqp", "qp": f"{round(crf)}"}
        return {**quality, "bf": "0", "delay": "0", "zerolatency": "1"}
    quiet = {"x265-params": "log-level=none"} if name == "libx265" else {}
    return {"crf": f"{crf:g}", "tune": "zerolatency", **quiet}


class OpenEncoder:
    """An encoder that is ready, owned by a container that is never written.

    Args:
        codec: A key of `ENCODERS`.
        size: Width and height, both even.
        rate: Frames per second.
        crf: Quality, the lower the better.

    Raises:
        VideoFileError: If this computer has no such encoder, or it does not take this size.
    """

    def __init__(self, codec: Codec, size: tuple[int, int], rate: Fraction, crf: float) -> None:
        self._owner = av.open(io.BytesIO(), "w", format="mp4")
        options = encoder_options(codec, crf)
        try:
            self.stream = self._owner.add_stream(ENCODERS[codec], rate=rate, options=options)
            self.stream.width, self.stream.height = size
            self.stream.pix_fmt = "yuv420p"
            context = self.stream.codec_context
            context.flags |= _GLOBAL_HEADER
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            self._owner.start_encoding()
        except (ValueError, FFmpegError) as error:
            raise _not_here(codec, size) from error


def require_encoder(codec: str) -> None:
    """Refuse a codec that this computer cannot write, before any work is done.

    Raises:
        ConfigError: If there is no codec of that name.
        VideoFileError: If it cannot be opened here.
    """
    known = next((each for each in ENCODERS if each == codec), None)
    if known is None:
        raise ConfigError(
            "codec",
            problem=f"there is no codec '{codec}'",
            seen=codec,
            expected=f"one of {', '.join(ENCODERS)}",
            remedy="choose another codec on Render Stream to Video",
        )
    OpenEncoder(known, _PROBE, Fraction(16), 20.0)


def _not_here(codec: Codec, size: tuple[int, int]) -> VideoFileError:
    if not ENCODERS[codec].endswith("_nvenc"):
        return VideoFileError(
            "codec",
            problem=f"this ComfyUI cannot write {codec} videos",
            seen=f"{codec}, which this PyAV cannot encode",
            expected="one that it can",
            remedy="choose h264",
        )
    plain = "h264" if codec == "h264_nvenc" else "h265"
    cause = (
        f"the codec {codec} cannot be opened: it needs an NVIDIA card with a video encoder"
        if size == _PROBE
        else f"the codec {codec} cannot write videos of {size[0]} x {size[1]} on this computer"
    )
    return VideoFileError(
        "codec",
        problem=cause,
        seen=f"{codec} at {size[0]} x {size[1]}",
        expected="a codec that can be opened here",
        remedy=f"choose {plain}, which is encoded by the processor",
    )
