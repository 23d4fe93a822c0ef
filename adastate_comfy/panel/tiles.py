"""Pictures as small files: moving WebP that loops, and still ones. No torch in here.

A thread encodes them while the next chunk is made, so what it does must need nothing of the model.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""Frames of 8-bit RGB, (frames, height, width, 3)."""

TILE_WIDTH = 128
PICTURE_WIDTH = 512
_QUALITY = 75
_FAST = 0
"""Effort of the encoder, 0 to 6: at this size more of it saves little and costs three times."""


def moving(frames: Pixels, seconds: float, width: int) -> bytes:
    """Encode frames as a WebP that plays for so many seconds and begins again.

    Args:
        frames: The frames.
        seconds: How long they last together.
        width: Width at most; smaller ones stay as they are.
    """
    images = [_shrunk(Image.fromarray(frame), width) for frame in frames]
    ends = [round(1000 * seconds * (i + 1) / len(images)) for i in range(len(images))]
    durations = [max(end - start, 1) for start, end in zip([0, *ends], ends, strict=False)]
    options: dict[str, Any] = {}
    if len(images) > 1:
        options = {
            "save_all": True,
            "append_images": images[1:],
            "duration": durations,
            "loop": 0,
        }
    return _encoded(images[0], options)


def still(frame: Pixels, width: int) -> bytes:
    """Encode one picture, (height, width, 3), as a WebP of so many pixels in width at most."""
    return _encoded(_shrunk(Image.fromarray(frame), width), {})


def _encoded(image: Image.Image, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=_FAST, **options)
    return file.getvalue()


def _shrunk(image: Image.Image, width: int) -> Image.Image:
    if image.width <= width:
        return image
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, height), Image.Resampling.BOX)
