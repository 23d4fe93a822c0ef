"""The exact attention kernels that may stand in for ComfyUI's own, if the artist asks for it.

ComfyUI has PyTorch try FlashAttention 2 before cuDNN; which one is faster depends on the card.
Kernels that round more, as SageAttention does, are never among these, and take nobody's place.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_basic, get_attention_function
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from ...adastate_core.attention.kernel_choice import Kernel, KernelChoice

_EXACT = ("pytorch", "flash", "xformers", "sub_quad", "split")
"""ComfyUI's names of the functions that compute in the type of the model."""
_KNOWN = frozenset(
    [
        *("heads", "mask", "scale", "attn_precision", "skip_reshape", "skip_output_reshape"),
        *("transformer_options", "low_precision_attention", "_inside_attn_wrapper"),
    ]
)
"""Options of an attention call that the kernels here follow, or need not."""
_TORCH = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "PyTorch's FlashAttention": SDPBackend.FLASH_ATTENTION,
    "PyTorch's memory-efficient attention": SDPBackend.EFFICIENT_ATTENTION,
}
_PACKAGES = {
    "FlashAttention 2": "flash_attn",
    "FlashAttention 3": "flash_attn_interface",
    "FlashAttention 4": "flash_attn.cute",
}
"""Modules with a `flash_attn_func`; all of them know these keywords."""


def may_replace(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether an attention call computes just what the kernels here do.

    Args:
        func: The attention function that ComfyUI would call.
        args: Its arguments after queries, keys and values; the first is the number of heads.
        kwargs: Its options.
    """
    known = len(args) <= 1 and kwargs.keys() <= _KNOWN
    return known and inspect.unwrap(func) in _exact_functions()


def describe(choice: KernelChoice) -> str:
    """Say in a few words what was chosen for the largest call; nothing if nothing was yet."""
    largest = choice.largest
    if largest is None:
        return ""
    if not largest.name:
        return "attention: ComfyUI's own is the fastest"
    gain = largest.host_seconds / largest.seconds
    return f"attention: {largest.name}, {gain:.1f} times as fast as ComfyUI's own"


def exact_kernels(q: Tensor, mask: Tensor | None) -> dict[str, Kernel]:
    """Return the kernels for such queries and such a mask, by the names that an artist reads."""
    if q.device.type == "cpu":
        return {"PyTorch": _attend_by_torch}
    if q.device.type != "cuda":
        return {}
    kernels: dict[str, Kernel] = {
        name: partial(_attend_restricted, backend) for name, backend in _TORCH.items()
    }
    if mask is None and q.dtype in (torch.float16, torch.bfloat16):
        found = {name: _function_of(module) for name, module in _PACKAGES.items()}
        kernels |= {n: partial(_attend_by_package, f) for n, f in found.items() if f is not None}
    return kernels


@cache
def _exact_functions() -> frozenset[Callable[..., Any]]:
    found = [get_attention_function(name, None) for name in _EXACT]
    return frozenset(inspect.unwrap(func) for func in (*found, attention_basic) if func is not None)


@cache
def _function_of(module: str) -> Callable[..., Any] | None:
    try:
        return getattr(importlib.import_module(module), "flash_attn_func", None)
    except Exception:  # missing, or built for another PyTorch, which shows in many ways
        return None


def _attend_by_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if mask is not None and mask.ndim == 3:  # of every batch entry, for all heads
        mask = mask[:, None]
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)


def _attend_restricted(
    backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    with sdpa_kernel(backend):
        return _attend_by_torch(q, k, v, mask, scale)


def _attend_by_package(
    func: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    out = func(q, k, v, softmax_scale=scale, causal=False)
    result: Tensor = out[0] if isinstance(out, tuple) else out  # some return the normaliser too
    return result
