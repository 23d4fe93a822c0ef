"""The speed of a clip, and the sound that goes with its newest frames."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import comfy.model_management
import numpy as np
import torch
from av.audio.resampler import AudioResampler
from comfy_api.latest import InputImpl
from torch import Tensor

IMAGES_FPS = 16.0
"""What images without a speed of their own are played at: as Wan 2.1 makes them."""
_RUN_UP = 0.2


@dataclass(frozen=True, slots=True)
class ClipSound:
    """How fast a clip plays, and what is heard.

    Args:
        fps: Frames per second.
        audio: Sound as ComfyUI's AUDIO sockets have it, or None for a silent clip.
    """

    fps: float
    audio: dict[str, Any] | None


def read_sound(clip: Any, dropped: int) -> ClipSound:
    """Read the sound of a clip from the first frame that is used.

    Args:
        clip: What an IMAGE or VIDEO socket gave.
        dropped: Frames at the beginning that are not used.
    """
    if isinstance(clip, Tensor):
        return ClipSound(IMAGES_FPS, None)
    if isinstance(clip, InputImpl.VideoFromFile):
        return _of_file(clip.get_stream_source(), clip.get_active_trim_window(), dropped)
    parts = clip.get_components()
    return ClipSound(float(parts.frame_rate), _without(parts.audio, dropped / parts.frame_rate))


def _of_file(source: str | io.BytesIO, window: tuple[float, float], dropped: int) -> ClipSound:
    if isinstance(source, io.BytesIO):
        source.seek(0)
    start, duration = window
    with av.open(source, mode="r") as container:
        rate = container.streams.video[0].average_rate or Fraction(1)
        if not container.streams.audio:
            return ClipSound(float(rate), None)
        stream = container.streams.audio[-1]  # as ComfyUI chooses among several
        heard = _samples(container, stream, (start, duration))
    if heard is None:
        return ClipSound(float(rate), None)
    audio = {"waveform": torch.from_numpy(heard)[None], "sample_rate": stream.sample_rate}
    return ClipSound(float(rate), _without(audio, dropped / rate))


def _samples(container: Any, stream: Any, window: tuple[float, float]) -> Any:
    """Return the samples of a window of a file, (channels, samples), or None."""
    start, duration = window
    resampler = AudioResampler(format="fltp")
    parts = []
    if start:
        # What a codec gives first after a jump is not yet right: begin a little earlier.
        container.seek(max(int((start - _RUN_UP) / stream.time_base), 0), stream=stream)
    for packet in container.demux(stream):
        comfy.model_management.throw_exception_if_processing_interrupted()
        for decoded in _decoded(packet):
            for frame in resampler.resample(decoded):
                skipped = round((start - float(frame.time or 0.0)) * stream.sample_rate)
                if skipped < frame.samples:
                    parts.append(frame.to_ndarray()[..., max(skipped, 0) :])
    if not parts:
        return None
    samples = np.concatenate(parts, axis=1)
    return samples[..., : round(duration * stream.sample_rate)] if duration else samples


def _decoded(packet: Any) -> Any:
    try:
        return packet.decode()
    except av.error.InvalidDataError:  # ComfyUI skips damaged packets as well
        return []


def _without(audio: Any, seconds: Fraction | float) -> dict[str, Any] | None:
    """Return a sound without so many seconds at its beginning."""
    if not audio:
        return None
    first = round(float(seconds) * audio["sample_rate"])
    return {**audio, "waveform": audio["waveform"][..., first:]}
