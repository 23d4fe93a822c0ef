"""A stand-in for a card: the meta device, where nothing of the processor's memory is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARD = torch.device("meta")


class OffTheCard(TorchDispatchMode):
    """The operations that touch a tensor which is not on the card."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        touched = tree_leaves((args, kwargs, out))
        if any(isinstance(each, Tensor) and each.device != CARD for each in touched):
            self.names.append(str(func))
        return out
