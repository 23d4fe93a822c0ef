"""Digests of tensors and texts, which identify them in files and cache keys."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def tensor_digest(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's dtype, shape and bytes."""
    data = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{data.dtype}{tuple(data.shape)}".encode())
    digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def text_digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
