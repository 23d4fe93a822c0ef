"""Sound of videos that tests write, and what is heard of it."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

QUIET = 0.001
"""How loud the noise is in which clicks are laid."""


def with_clicks(samples: int, at: list[int], channels: int = 2) -> Tensor:
    """Return faint noise with single loud samples in it, (channels, samples)."""
    source = torch.Generator().manual_seed(0)
    sound = torch.randn((channels, samples), generator=source) * QUIET
    sound[:, at] = 0.9
    return sound


def chord(samples: int, rate: int, channels: int = 2) -> Tensor:
    """Return tones that AAC carries well, (channels, samples)."""
    time = torch.arange(samples, dtype=torch.float64) / rate
    pitches = (220.0, 331.0, 997.0)
    tones = [torch.sin(2 * torch.pi * pitch * time) for pitch in pitches]
    return torch.stack([sum(tones) * 0.2] * channels).float()


def heard(data: bytes) -> tuple[int, np.ndarray[Any, Any]]:
    """Return at which sample a file begins to sound, and the sound, (channels, samples)."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        begins = round(frames[0].pts * frames[0].time_base * stream.sample_rate)
        return begins, np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def played(data: bytes) -> np.ndarray[Any, Any]:
    """Return what a player plays of the sound: what lies in the time that the file says."""
    begins, sound = heard(data)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        length = round((stream.duration or 0) * stream.time_base * stream.sample_rate)
    return sound[:, max(-begins, 0) :][:, :length]


def by_ffmpeg(path: Path, channels: int = 2) -> np.ndarray[Any, Any]:
    """Return the sound of a file as the command line hears it, (channels, samples)."""
    command = shutil.which("ffmpeg")
    if command is None:
        pytest.skip("no ffmpeg here")
    arguments = ["-v", "error", "-i", str(path), "-vn", "-f", "f32le", "-"]
    done = subprocess.run([command, *arguments], capture_output=True, check=True)
    assert not done.stderr
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels).T


def loudest_near(sound: np.ndarray[Any, Any], at: int, reach: int = 600) -> int:
    """Return which sample is the loudest one around a place."""
    begin = max(at - reach, 0)
    return begin + int(np.abs(sound[:, begin : at + reach]).sum(0).argmax())


def packets(data: bytes, kind: str) -> list[tuple[int, int, int, bool]]:
    """Return time, length, size and whether one can begin there, of all packets of a kind."""
    with av.open(io.BytesIO(data)) as container:
        (stream,) = (each for each in container.streams if each.type == kind)
        found = [p for p in container.demux(stream) if p.size]
        return [(p.pts, p.duration, p.size, p.is_keyframe) for p in found]
