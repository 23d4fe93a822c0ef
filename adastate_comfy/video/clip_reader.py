"""Clips frame by frame: images of a batch, or a video file that is never in memory as a whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import av
import av.filter
import comfy.model_management
import numpy as np
import torch
from av.video.frame import VideoFrame
from comfy_api.latest import InputImpl
from numpy.typing import NDArray
from torch import Tensor

_FULL_RANGE = {"yuvj420p", "yuvj422p", "yuvj444p", "rgb24", "rgba", "pal8"}


class ImageClip:
    """A batch of images.

    Args:
        images: (frames, height, width, channels), from 0 to 1.
    """

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def count(self) -> int:
        """Count the frames."""
        return int(self._images.shape[0])

    def frames(self) -> Iterator[Tensor]:
        """Go through the frames, (1, height, width, channels) each."""
        return iter(self._images.split(1))


class FileClip:
    """A video file, which is read again for every use.

    Args:
        source: Its path or content.
        window: Start and duration in seconds; a duration of 0 goes to the end.
    """

    def __init__(self, source: str | io.BytesIO, window: tuple[float, float]) -> None:
        self._source, self._window = source, window

    def count(self) -> int:
        """Count the frames by reading them: what a file says of itself may be wrong."""
        return sum(1 for _ in self._read())

    def frames(self) -> Iterator[Tensor]:
        """Go through the frames, (1, height, width, 3) each, from 0 to 1."""
        convert = _Conversion()
        for frame in self._read():
            pixels = torch.from_numpy(convert(frame))
            turns = round(frame.rotation / 90)
            yield (torch.rot90(pixels, turns, dims=(0, 1)) if turns else pixels)[None]

    def _read(self) -> Iterator[VideoFrame]:
        if isinstance(self._source, io.BytesIO):
            self._source.seek(0)
        start, duration = self._window
        with av.open(self._source, mode="r") as container:
            if not container.streams.video:
                return
            stream = container.streams.video[0]
            assert stream.time_base is not None
            stream.thread_type = "AUTO"
            first, end = (int(time / stream.time_base) for time in (start, start + duration))
            if first:
                container.seek(first, stream=stream)
            for packet in container.demux(stream):
                comfy.model_management.throw_exception_if_processing_interrupted()
                for frame in _decode_packet(packet):
                    if frame.pts is not None and duration and frame.pts >= end:
                        return
                    if frame.pts is None or frame.pts >= first:
                        yield frame


class _Conversion:
    """Frames as pixels from 0 to 1, with the values that ComfyUI's own reading gives."""

    def __init__(self) -> None:
        self._pad: tuple[av.filter.Graph, Any, Any] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.float32]:
        if frame.format.name in _FULL_RANGE:
            return np.divide(frame.to_ndarray(format="rgb24"), 255, dtype=np.float32)
        if frame.width % 32:
            # What lies beyond the last column would be mixed into it: let that be its copies.
            self._pad = self._pad or _padding(frame)
            _, into, out = self._pad
            into.push(frame)
            pixels = out.pull().to_ndarray(format="gbrpf32le")[: frame.height, : frame.width]
        else:
            pixels = frame.to_ndarray(format="gbrpf32le")
        return np.ascontiguousarray(pixels)


def _padding(frame: VideoFrame) -> tuple[av.filter.Graph, Any, Any]:
    """Return a filter, its entry and its exit: the sides grow to multiples of 32."""
    width, height = (-(-side // 32) * 32 for side in (frame.width, frame.height))
    graph = av.filter.Graph()
    into = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format.name,
        time_base=frame.time_base,
    )
    right, bottom = width - frame.width, height - frame.height
    pad = graph.add("pad", f"{width}:{height}:0:0")
    fill = graph.add("fillborders", f"left=0:right={right}:top=0:bottom={bottom}:mode=smear")
    out = graph.add("buffersink")
    for one, other in ((into, pad), (pad, fill), (fill, out)):
        one.link_to(other)
    graph.configure()
    return graph, into, out


Clip = ImageClip | FileClip


def open_clip(clip: Any) -> Clip:
    """Return what an IMAGE or VIDEO socket gave as a clip."""
    if isinstance(clip, Tensor):
        return ImageClip(clip)
    if isinstance(clip, InputImpl.VideoFromFile):
        return FileClip(clip.get_stream_source(), clip.get_active_trim_window())
    return ImageClip(clip.get_components().images)


def _decode_packet(packet: Any) -> list[VideoFrame]:
    try:
        frames: list[VideoFrame] = packet.decode()
    except av.error.InvalidDataError:  # ComfyUI skips damaged packets as well
        return []
    return frames
