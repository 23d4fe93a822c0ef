"""A SAMPLER for one run, so that nothing of it reaches the next one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import comfy.k_diffusion.sampling
import comfy.samplers
import torch
from torch import Tensor

from ...adastate_core.transfer import sent

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
    if renoises(ours):
        ours.extra_options = {**ours.extra_options, "noise_sampler": noise}
    return ours


def schedule_for(sampler: comfy.samplers.Sampler, sigmas: Tensor, device: torch.device) -> Tensor:
    """Return noise levels of its own for a SAMPLER, where it looks at them.

    That is the device of the latents, as in the host. ComfyUI's lcm asks at every step whether the
    next level is 0: of a level on a card it would wait for all that the card has been given, and
    the card then for the next step. It multiplies single levels only, which may be anywhere.

    Args:
        sampler: The SAMPLER.
        sigmas: Noise levels, on the processor.
        device: Where it samples.
    """
    asks = getattr(sampler, "sampler_function", None) is comfy.k_diffusion.sampling.sample_lcm
    if asks and device.type == "cuda":
        device = sigmas.device
    return sent(sigmas, device, copy=True)


def renoises(sampler: comfy.samplers.Sampler) -> bool:
    """Say whether a SAMPLER adds noise between steps, and takes it from a source it is given."""
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        return False
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
