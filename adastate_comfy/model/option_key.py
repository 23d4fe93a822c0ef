"""Identify what is on a MODEL besides its weights: options, wrappers and replaced parts.

Keys and values depend on them, so the keys of the attention cache hold them. Plain values and
tensors count by what they are, functions and objects by which they are: such a key means something
in this process only, as the cache does. What only guides a sampler is left out, since a commit is a
plain forward.
"""

from __future__ import annotations

import hashlib
import types
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.digest import tensor_digest

GUIDANCE = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
)
"""Model options with functions that decide what a sampler makes of the forwards."""
_NOT_IN_A_COMMIT = (*GUIDANCE, "disable_cfg1_optimization", "denoise_mask_function")
_PLAIN = (bool, int, float, str, bytes, torch.dtype, torch.device, type(None))


class ObjectNumbers:
    """Numbers of functions and objects, never given twice while this lives."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[Any, int]] = {}
        self._next = 0

    def number(self, value: object) -> int:
        """Return the number of an object, the same for as long as it exists."""
        known = self._numbers.get(id(value))
        if known is not None and known[0]() is value:
            return known[1]
        try:
            reference: Any = weakref.ref(value)
        except TypeError:  # kept alive, so that no other object gets its address

            def reference() -> object:
                return value

        self._next += 1
        self._numbers[id(value)] = (reference, self._next)
        return self._next


def options_key(model: ModelPatcher, own: str, numbers: ObjectNumbers) -> str:
    """Return a digest of what is on a MODEL besides weights and their patches.

    Args:
        model: The MODEL.
        own: Key under which AdaState's own parts hang, which are left out.
        numbers: Numbers of functions and objects.
    """
    options = {k: v for k, v in model.model_options.items() if k not in _NOT_IN_A_COMMIT}
    patches = dict(model.object_patches)
    patches.pop("model_sampling", None)
    parts = [
        _Text(numbers, own).of(options),
        _Text(numbers, own).of(patches),
        _Text(numbers, own).of(model.wrappers),
        _Text(numbers, own).of(getattr(model, "forced_hooks", None)),
        # A schedule's shift moves noise levels; a commit knows noise level 0 only.
        _describe_schedule(model.get_model_object("model_sampling"), numbers),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


class _Text:
    """Nested options as text."""

    def __init__(self, numbers: ObjectNumbers, own: str) -> None:
        self._numbers, self._own = numbers, own

    def of(self, value: object) -> str:
        if isinstance(value, Tensor):
            return f"tensor {tensor_digest(value)}"
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, Mapping):
            rows = [f"{self.of(k)}: {self.of(v)}" for k, v in value.items() if k != self._own]
            return "{" + ", ".join(row for row in rows if not row.endswith(": {}")) + "}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__} [" + ", ".join(map(self.of, value)) + "]"
        if isinstance(value, types.MethodType):  # a new one whenever it is looked up
            owner = self._numbers.number(value.__self__)
            return f"method {self._numbers.number(value.__func__)} of {owner}"
        return f"{type(value).__qualname__} {self._numbers.number(value)}"


def _describe_schedule(sampling: Any, numbers: ObjectNumbers) -> str:
    """Write what a schedule makes of noise level 0: its time, and the scale of the input."""
    zero = torch.zeros(())
    try:
        time, scale = sampling.timestep(zero), sampling.calculate_input(zero, torch.ones(1))
        return f"{float(time)} {float(scale)}"
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return f"object {numbers.number(sampling)}"
