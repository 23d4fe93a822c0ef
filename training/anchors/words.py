"""The words of the panorama, for the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from training import text
from training.panorama.prompts import all_prompts


@lru_cache(maxsize=1)
def panorama_vocabulary() -> bytes:
    """The vocabulary of the panorama's prompts."""
    return text.train_vocabulary([prompt.text for prompt in all_prompts()])


@lru_cache(maxsize=1)
def tokenizer() -> text.Tokenizer:
    return text.Tokenizer(panorama_vocabulary())


@lru_cache(maxsize=1)
def longest() -> int:
    """Tokens of the longest prompt: one width for all batches."""
    return int(tokenizer()([prompt.text for prompt in all_prompts()])[1].max())


def tokens(texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids ``(N, longest)`` and lengths ``(N,)`` of texts."""
    ids, lengths = tokenizer()(list(texts))
    padded = torch.nn.functional.pad(ids, (0, max(0, longest() - ids.shape[1])))
    return padded.to(device), lengths.to(device)
