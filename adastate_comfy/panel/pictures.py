"""Pictures of a chunk: where they come from, and how they are made small for the thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...adastate_core.stream.state import StreamState
from .tiles import PICTURE_WIDTH, Pixels


@dataclass(frozen=True, slots=True, repr=False)
class ChunkPictures:
    """The pictures of a chunk, small and in 8 bits.

    Args:
        frames: Its frames.
        hidden: Its hidden state, (1, height, width, 3), or None.
        source: What they are made with: `vae` or `latent`.
        images: The images of the video that they stand for.
    """

    frames: Pixels
    hidden: Pixels | None
    source: str
    images: int


class PictureSource(Protocol):
    """Something that makes pictures of chunks."""

    @property
    def decodes(self) -> bool:
        """Whether it runs a model, which no sampling session may be open for."""
        ...

    def pictures_of(self, state: StreamState) -> ChunkPictures:
        """Make pictures of the newest chunk; each once, in order."""
        ...


def small_pixels(images: Tensor, width: int = PICTURE_WIDTH) -> Pixels:
    """Return images, (frames, H, W, 3) from 0 to 1, in 8 bits and at most so wide.

    They are made small where they are, and one copy takes them away from there.
    """
    with torch.inference_mode():
        images = images[..., :3]
        if images.shape[2] > width:
            height = max(1, round(images.shape[1] * width / images.shape[2]))
            planes = images.movedim(-1, 1).float()
            shrunk = _shrunk(planes, height, width)
            images = shrunk.movedim(1, -1)
        pixels = images.float().mul(255).round_().clamp_(0, 255).to(torch.uint8)
        taken: Pixels = np.ascontiguousarray(pixels.cpu().numpy())
    return taken


def _shrunk(planes: Tensor, height: int, width: int) -> Tensor:
    # Exact means over fractions of pixels take five times as long on a processor.
    whole = max(1, min(planes.shape[2] // height, planes.shape[3] // width))
    means = torch.nn.functional.avg_pool2d(planes, whole) if whole > 1 else planes
    return torch.nn.functional.interpolate(means, (height, width), mode="bilinear")
