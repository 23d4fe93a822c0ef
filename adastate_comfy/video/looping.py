"""A video whose end passes into its beginning."""

from __future__ import annotations

import torch
from torch import Tensor

from ...adastate_core.errors import ConfigError


def close_loop(images: Tensor, fade: int) -> Tensor:
    """Fade the last images into the first ones, which then no longer begin the video.

    The video becomes shorter by as many images: the last one is nearly the last of those that
    were taken from the beginning, so that the first one follows on it.

    Args:
        images: (..., frames, height, width, channels).
        fade: Images over which the end fades; 0 changes nothing.

    Raises:
        ConfigError: If the video is too short for it.
    """
    count = images.shape[-4]
    if not fade:
        return images
    if 2 * fade >= count:
        raise ConfigError(
            "loop",
            problem=f"a video of {count} frames is too short to loop over {fade}",
            seen=fade,
            expected=f"at most {(count - 1) // 2}",
            remedy="lower loop on Decode Stream, or make more chunks",
        )
    head, kept = images.split((fade, count - fade), dim=-4)
    body, tail = kept.split((count - 2 * fade, fade), dim=-4)
    steps = torch.arange(1, fade + 1, dtype=images.dtype, device=images.device) / (fade + 1)
    return torch.cat((body, torch.lerp(tail, head, steps.view(-1, 1, 1, 1))), dim=-4)
