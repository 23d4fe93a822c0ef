"""Forwards of ComfyUI's Wan class with the cache written out by hand, to compare with.

Nothing of the pack is used: keys are turned with complex numbers, and what is attended to, and
where it stands in time, is given frame by frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HEAD, AXIS = 128, 44


def turned(x: Tensor, deltas: list[int], heads: int) -> Tensor:
    """Turn (B, S, H * D) by frames, in double precision."""
    speeds = 10000.0 ** (-torch.arange(0, AXIS, 2, dtype=torch.float64) / AXIS)
    angles = torch.tensor(deltas, dtype=torch.float64)[:, None] * speeds
    spin = torch.polar(torch.ones_like(angles), angles)[None, :, None, None]
    split = x.double().reshape(1, len(deltas), -1, heads, HEAD)
    pairs = torch.view_as_complex(split[..., :AXIS].unflatten(-1, (-1, 2)).contiguous())
    time = torch.view_as_real(pairs * spin).flatten(-2)
    return torch.cat((time, split[..., AXIS:]), dim=-1).reshape(x.shape).to(x.dtype)


def turned_in_space(x: Tensor, width: int, sign: int, heads: int) -> Tensor:
    """Turn one frame (1, S, H * D) from the first place of the picture to each token's, or back."""
    axis = (HEAD - AXIS) // 2
    speeds = 10000.0 ** (-torch.arange(0, axis, 2, dtype=torch.float64) / axis)
    places = torch.arange(x.shape[1])
    rows, columns = (places // width).double(), (places % width).double()
    angles = torch.cat((rows[:, None] * speeds, columns[:, None] * speeds), dim=1) * sign
    spin = torch.polar(torch.ones_like(angles), angles)[None, :, None]
    split = x.double().reshape(1, -1, heads, HEAD)
    pairs = torch.view_as_complex(split[..., AXIS:].unflatten(-1, (-1, 2)).contiguous())
    space = torch.view_as_real(pairs * spin).flatten(-2)
    return torch.cat((split[..., :AXIS], space), dim=-1).reshape(x.shape)


@dataclass
class PastFrame:
    """Keys without a place in time, and values, of one frame in one layer."""

    key: Tensor
    value: Tensor


# What a block attends to besides itself, in one layer: frames and where they stand.
Context = list[tuple[PastFrame, int]]


class StraightLine:
    """A Wan whose self-attentions see what they are told to see."""

    def __init__(self, dit: Any, text: Tensor) -> None:
        self.dit, self.text = dit, text

    def velocity(
        self, x: Tensor, sigma: float, block_at: list[int], context: list[Context]
    ) -> tuple[Tensor, list[list[PastFrame]]]:
        """Return the prediction, and the frames it wrote, layer by layer."""
        native = list(range(x.shape[2]))
        moves = [there - here for there, here in zip(block_at, native, strict=True)]
        written: list[list[PastFrame]] = []

        def attention(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
            if q.shape != k.shape:
                return func(q, k, v, *args, **kwargs)
            heads, layer = q.shape[-1] // HEAD, len(written)
            raw = turned(k, [-i for i in native], heads).chunk(len(native), dim=1)
            values = v.chunk(len(native), dim=1)
            written.append([PastFrame(a, b) for a, b in zip(raw, values, strict=True)])
            q, k = turned(q, moves, heads), turned(k, moves, heads)
            past = context[layer] if context else []
            keys = [turned(frame.key.float(), [at], heads) for frame, at in past]
            k = torch.cat([*keys, k], dim=1)
            v = torch.cat([*(frame.value.float() for frame, _ in past), v], dim=1)
            return func(q, k, v, *args, **kwargs)

        options = {"optimized_attention_override": attention}
        out = self.dit(x, torch.tensor([1000.0 * sigma]), self.text, transformer_options=options)
        return out, written
