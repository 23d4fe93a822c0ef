"""A video whose end passes into its beginning."""

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
    count = images.shape[-4]
    fade = min(fade, longest_fade(count))
    if not fade:
        return images
    head, kept = images.split((fade, count - fade), dim=-4)
    body, tail = kept.split((count - 2 * fade, fade), dim=-4)
    steps = torch.arange(1, fade + 1, dtype=images.dtype, device=images.device) / (fade + 1)
    return torch.cat((body, torch.lerp(tail, head, steps.view(-1, 1, 1, 1))), dim=-4)
