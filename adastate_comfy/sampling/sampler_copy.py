"""A SAMPLER for one run, so that nothing of it reaches the next one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

NoiseSampler = Callable[[Any, Any], Tensor]


def copy_sampler(sampler: comfy.samplers.Sampler, noise: NoiseSampler) -> comfy.samplers.Sampler:
    """Return a copy of a SAMPLER whose options, tensors and generators are its own.

    What a sampler keeps between runs would make a chunk depend on those that were made in the
    same process.

    Args:
        sampler: The artist's SAMPLER.
        noise: Source of noise, for samplers that accept one.
    """
    ours: comfy.samplers.Sampler = _copy(sampler)
    if isinstance(ours, comfy.samplers.KSAMPLER) and _accepts_noise(ours):
        ours.extra_options = {**ours.extra_options, "noise_sampler": noise}
    return ours


def _accepts_noise(sampler: comfy.samplers.KSAMPLER) -> bool:
    return "noise_sampler" in inspect.signature(sampler.sampler_function).parameters


def _copy(value: Any) -> Any:
    """Copy what is written to in passing; models and the like are shared."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, torch.Generator):
        ours = torch.Generator(value.device)
        ours.set_state(value.get_state())
        return ours
    if type(value) in (list, tuple):
        return type(value)(_copy(item) for item in value)
    if type(value) is dict:
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, comfy.samplers.Sampler):
        ours = copy.copy(value)
        for name, item in vars(value).items():
            setattr(ours, name, _copy(item))
        return ours
    return value
