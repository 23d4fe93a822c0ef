"""Mark the frames of a block that stand for one picture, where a model marks such frames.

LTX-2.5 adds a learned vector to latents that stand for a single picture: the first of a video, and
those that stand alone. ComfyUI's class marks the first frame of whatever it is given, and that
is a chunk here. In a stream the first frame of all stands for one picture, and so does every
hidden frame; the content of later chunks does not.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...adastate_core.attention.block_attention import BlockAttention
from .blocks import before_first_block

_MARK = "keyframes_abs_pos_embedding"


def mark_pictures(options: dict[str, Any], view: BlockAttention, dit: object) -> None:
    """Have the frames of a block marked that stand for one picture, and no others.

    Args:
        options: Transformer options of one forward; changed.
        view: The block.
        dit: The model; nothing is done for one without such marks.
    """
    mark: Tensor | None = getattr(dit, _MARK, None)
    pictures = min(view.state_frames + (view.first_frame == 0), view.frames)
    if mark is None or pictures == 1:  # which is what the class does by itself
        return
    size = view.geometry.tokens_per_frame

    def marked(video: Tensor) -> None:
        own = mark.to(device=video.device, dtype=video.dtype)
        if pictures:
            video[:, size : pictures * size] += own
        else:
            video[:, :size] -= own

    before_first_block(options, marked)
