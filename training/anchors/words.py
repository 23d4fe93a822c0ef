"""The words of the panorama for the text encoder, and what is kept of those of the shipped one."""

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


def carried_embedding(old: Tensor, old_vocabulary: bytes, generator: torch.Generator) -> Tensor:
    """Embed the pieces of the panorama: shared pieces as they were, others like any of those.

    Args:
        old: Embeddings of the other vocabulary, one row a piece.
        old_vocabulary: Its sentencepiece model.
        generator: Draws the new rows, with the mean and spread of the old ones.
    """
    model, before = tokenizer().model, text.Tokenizer(old_vocabulary).model
    known = {before.id_to_piece(i): i for i in range(before.get_piece_size())}
    noise = torch.randn(model.get_piece_size(), old.shape[1], generator=generator)
    rows = old.mean(0) + old.std(0) * noise
    for i in range(model.get_piece_size()):
        if (place := known.get(model.id_to_piece(i))) is not None:
            rows[i] = old[place]
    return rows
