"""A video, and its sound, whose end passes into its beginning."""

from __future__ import annotations

import torch
from torch import Tensor


def longest_fade(frames: int) -> int:
    """Return over how many frames a video of a length can fade into itself at most."""
    return max(frames - 1, 0) // 2


def close_loop(images: Tensor, fade: int) -> Tensor:
    """Fade the last images into the first ones, which then no longer begin the video.

    The video becomes shorter by as many images: the last one is nearly the last of those that
    were taken from the beginning, so that the first one follows on it.

    Args:
        images: (..., frames, height, width, channels).
        fade: Images over which the end fades, as many as the video allows at most; 0 changes
            nothing.
    """
    return _faded(images, min(fade, longest_fade(images.shape[-4])), axis=-4)


def close_sound_loop(sound: Tensor, fade: int, frames: int) -> Tensor:
    """Fade the end of a sound into its beginning, for as long as its images do.

    Args:
        sound: (..., samples), as long as the images.
        fade: What `close_loop` gets.
        frames: How many images it gets.
    """
    samples = sound.shape[-1]
    share = min(fade, longest_fade(frames)) / frames if frames else 0.0
    return _faded(sound, min(round(samples * share), longest_fade(samples)), axis=-1)


def _faded(values: Tensor, fade: int, axis: int) -> Tensor:
    """Fade the last values along an axis into the first ones, which are left out there."""
    count = values.shape[axis]
    if not fade:
        return values
    head, kept = values.split((fade, count - fade), dim=axis)
    body, tail = kept.split((count - 2 * fade, fade), dim=axis)
    steps = torch.arange(1, fade + 1, dtype=values.dtype, device=values.device) / (fade + 1)
    weights = steps.view(-1, *[1] * (-1 - axis))
    return torch.cat((body, torch.lerp(tail, head, weights)), dim=axis)
