"""Attention of a bare forward over as many keys as a stream has, at no cost but their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ReadyKeys:
    """Give every self-attention over a block longer keys and values that lie in memory.

    An attention override, as ComfyUI calls it. Text that takes part in a self-attention stays
    part of it: keys grow by the same number with and without it.

    Args:
        block: Tokens of the block of video; shorter self-attentions are those of a text.
        context: Tokens of the past.
    """

    def __init__(self, block: int, context: int) -> None:
        self._block, self._context = block, context
        self._made: dict[torch.Size, tuple[Tensor, Tensor]] = {}
        self.served = 0
        """Self-attentions served so far."""

    def __call__(
        self,
        func: Callable[..., Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Call the attention function."""
        axis = 2 if kwargs.get("skip_reshape") else 1
        if q.shape == k.shape and k.shape[axis] >= self._block:
            k, v = self._longer(k, axis)
            self.served += 1
        return func(q, k, v, *args, **kwargs)

    def _longer(self, like: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        if like.shape not in self._made:
            shape = list(like.shape)
            shape[axis] += self._context
            source = torch.Generator(like.device).manual_seed(3)
            keys, values = (torch.randn(shape, generator=source).to(like) for _ in range(2))
            self._made[like.shape] = keys, values
        return self._made[like.shape]
