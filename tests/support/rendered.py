"""Read what a render has left: brightness of the frames, and receipts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor


def luma(path: Path) -> Tensor:
    """Read the brightness of all frames, (frames, H, W), 0 to 1; colours have half the size."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    planes = torch.stack([torch.from_numpy(frame) for frame in frames])
    height = planes.shape[1] * 2 // 3
    return (planes[:, :height].float() - 16) / 219


def luma_of(pictures: Tensor) -> Tensor:
    """Return what ITU-R BT.709 makes of pictures, (frames, H, W, 3)."""
    return pictures @ torch.tensor((0.2126, 0.7152, 0.0722))


def receipts(path: Path) -> list[dict[str, Any]]:
    return receipt_lines(path)[1:]


def receipt_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
