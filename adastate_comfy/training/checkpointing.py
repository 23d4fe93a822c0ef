"""Gradient checkpointing: blocks of a model keep what they are given, and run again for gradients.

A block that runs again has to find its place in the forward: what tells attention calls apart is
put back to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..model.attention_override import AttentionOverride
from ..model.keys import VIEW

_OVERRIDE = "optimized_attention_override"
Forward = Callable[..., Any]


@contextmanager
def checkpointed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Have blocks run again for their gradients, for as long as this lasts."""
    for block in blocks:
        block.forward = _checkpointing(block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # that of its class is below


def _checkpointing(forward: Forward) -> Forward:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        given = [*args, *kwargs.values()]
        options = next((x for x in given if isinstance(x, dict) and VIEW in x), {})
        override, was, times = options.get(_OVERRIDE), dict(options), 0
        layers = override.layers if isinstance(override, AttentionOverride) else None
        mark = None if layers is None else layers.mark()

        def once(*args: Any, **kwargs: Any) -> Any:
            nonlocal times
            times += 1
            if times > 1:  # the model has gone on, and its options say where it is now
                args = tuple(dict(was) if x is options else x for x in args)
                kwargs = {k: dict(was) if x is options else x for k, x in kwargs.items()}
                if layers is not None and mark is not None:
                    layers.restore(mark)
            return forward(*args, **kwargs)

        # Nothing in a block draws, so the global generators need not be put back.
        return checkpoint(once, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
