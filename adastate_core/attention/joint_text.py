"""Text tokens inside a self-attention: cut them off, and put them back.

Models that mix text in by joint attention carry its tokens beside those of the video. The text
attends to the past and to the current block like the video does; only keys and values of the
video enter the cache. That is causal, but it is not what models that saw a whole video at once
were trained on: there the text of the first frames had already seen the last ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TextPlace = Literal["apart", "first", "last"]


def cut_text(x: Tensor, place: TextPlace, video_tokens: int) -> tuple[Tensor, Tensor | None]:
    """Split (B, S, H, D) into the tokens of the video and those of the text."""
    if place == "apart":
        return x, None
    if place == "first":
        cut = x.shape[1] - video_tokens
        return x[:, cut:], x[:, :cut]
    return x[:, :video_tokens], x[:, video_tokens:]


def join_text(video: Tensor, text: Tensor | None, place: TextPlace) -> Tensor:
    """Undo `cut_text`."""
    if text is None:
        return video
    parts = (text, video) if place == "first" else (video, text)
    return torch.cat(parts, dim=1)
