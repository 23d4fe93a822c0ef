"""Tensors on their way to a device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device, *, copy: bool = False) -> Tensor:
    """Return a tensor of the processor on another device, in the order of what is queued there.

    A card that copies from ordinary memory has the processor wait until all before is done.

    Args:
        x: The tensor.
        device: Where it is to be.
        copy: Whether it is to be another tensor even if `x` is there already.
    """
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device, copy=copy)
    try:
        pinned = x.pin_memory()
    except RuntimeError:  # the system has no more page-locked memory
        return x.to(device)
    # Torch keeps the pinned copy until the card has read it.
    return pinned.to(device, non_blocking=True)
