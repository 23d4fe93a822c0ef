"""Texts of prompts as a model has prepared them, kept with the MODEL."""

from __future__ import annotations

import torch
from torch import Tensor

_KEPT = 4
"""Texts that are kept: positive and negative, of two prompts. One of LTX-2 takes 12 MiB."""


class PreparedTexts:
    """The texts that a model has prepared, the most recently used last, in system memory.

    >>> texts = PreparedTexts()
    >>> texts.keep("a fox", torch.ones(1))
    >>> texts.find("a fox"), texts.find("a dog")
    (tensor([1.]), None)
    """

    def __init__(self) -> None:
        self._texts: dict[str, Tensor] = {}

    def find(self, key: str) -> Tensor | None:
        """Return a copy of a text, None if it is not kept."""
        found = self._texts.pop(key, None)
        if found is None:
            return None
        self._texts[key] = found
        return found.clone()

    def keep(self, key: str, text: Tensor) -> None:
        """Keep a text, and forget the one that was not asked for the longest."""
        # Outside inference mode: whoever trains may ask for it.
        with torch.inference_mode(False), torch.no_grad():
            self._texts[key] = text.detach().to("cpu", copy=True)
        while len(self._texts) > _KEPT:
            del self._texts[next(iter(self._texts))]
