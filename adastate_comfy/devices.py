"""Devices and their random generators, of every kind that ComfyUI runs on.

A kind has a module of torch, such as `torch.cuda`, `torch.xpu`, `torch.mps` or `torch.npu`. They
are not alike: that of MPS knows one device only, and DirectML has none and draws on the CPU.
`torch.random.fork_rng` takes them for alike: it fails on DirectML, and on MPS with older
releases of torch, and does not save the generator of the CPU for `meta`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import ModuleType

import torch

_GENERATOR = ("get_rng_state", "set_rng_state", "manual_seed")


@contextlib.contextmanager
def private_rng(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Put the global generators of the CPU and of one device back afterwards, also on an error.

    No other device is touched, since that would take memory on each.

    Args:
        device: The device.
        seed: What to seed them with meanwhile; without it they go on from where they are.
    """
    module = _generator_module(device)
    which = (device,) if module and _takes_device(module) else ()
    cpu = torch.get_rng_state()
    own = module.get_rng_state(*which) if module else None
    try:
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            if module:
                with _current_device(module, device):
                    module.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(cpu)
        if module:
            module.set_rng_state(own, *which)


def same_device(one: torch.device, other: torch.device) -> bool:
    """Say whether two names are of one device: `mps` is `mps:0`, `cuda` the current GPU."""
    return one.type == other.type and _index(one) == _index(other)


def _index(device: torch.device) -> int:
    index: int | None = device.index  # torch declares it without None
    if index is not None:
        return index
    module = getattr(torch, device.type, None)
    if module is None or not hasattr(module, "is_available") or not module.is_available():
        return 0
    current = getattr(module, "current_device", None)
    index = current() if current else 0
    return index if isinstance(index, int) else 0  # the module of the CPU gives a name


def _generator_module(device: torch.device) -> ModuleType | None:
    """Return the module that owns a device's global generator, unless that is the CPU's."""
    module = getattr(torch, device.type, None)
    owns = module is not None and all(hasattr(module, name) for name in _GENERATOR)
    return module if owns else None


def _current_device(module: ModuleType, device: torch.device) -> AbstractContextManager[object]:
    """Make a device the current one of its kind, unless the kind has only one, as MPS."""
    if not hasattr(module, "device"):
        return contextlib.nullcontext()
    current: AbstractContextManager[object] = module.device(device)
    return current


def _takes_device(module: ModuleType) -> bool:
    return "device" in inspect.signature(module.get_rng_state).parameters
