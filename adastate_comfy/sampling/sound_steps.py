"""Steps of a sound that has a schedule of its own beside that of the video.

MiniMax H3 hands samplers one noise level, that of the video, and multiplies what it says of the
sound by the slope of the sound's schedule there, so that a flat step comes out right in the limit
of many. In a few steps the sound moves too far: twice as far in four. A step of Euler's comes out
right with the mean slope over the step, whatever their number. ComfyUI versions that scale the
sound within the model have no such slope, and nothing is changed there.
"""

from __future__ import annotations

import sys
from typing import Any

import comfy.k_diffusion.sampling
import comfy.samplers
import torch
from torch import Tensor


def has_slope(dit: object) -> bool:
    """Say whether a model multiplies what it says of the sound by a slope."""
    return hasattr(module_of(dit), "time_shift_slope")


def is_euler(sampler: comfy.samplers.Sampler) -> bool:
    """Say whether a SAMPLER is Euler's method."""
    function = getattr(sampler, "sampler_function", None)
    return function is comfy.k_diffusion.sampling.sample_euler


class MeanSlope:
    """What multiplies the sound of a model by the mean slope over a step.

    Args of a call are what a model says, video and sound, the model, and the transformer options
    of the forward. All chunks of a session have the same steps: each is worked out once.
    """

    def __init__(self) -> None:
        self._factors: dict[tuple[float, ...], float] = {}

    def __call__(self, out: Any, dit: object, options: dict[str, Any]) -> Any:
        """Return what the model says, with the sound multiplied."""
        sigma, shifts = float(options["sigmas"].flatten()[0]), shifts_of(dit, options)
        step = (sigma, *shifts)
        if step not in self._factors:
            following = _following(sigma, options["sample_sigmas"])
            self._factors[step] = 1.0 if following is None else _mean(dit, sigma, following, shifts)
        factor, (video, sound) = self._factors[step], out
        return out if factor == 1.0 else [video, sound * factor]


def _mean(dit: object, sigma: float, following: float, shifts: list[float]) -> float:
    """Return the mean slope over a step over the slope where it begins."""
    module = module_of(dit)

    def of_sound(level: float) -> float:
        at = torch.tensor(level, dtype=torch.float64)
        return float(module.time_shift_sigma(at, *shifts)) if level > 0 else 0.0

    mean = (of_sound(sigma) - of_sound(following)) / (sigma - following)
    slope = float(module.time_shift_slope(torch.tensor(sigma, dtype=torch.float64), *shifts))
    return mean / slope


def shifts_of(dit: object, options: dict[str, Any]) -> list[float]:
    """Return by how much the schedules of video and sound are shifted."""
    names = ("sigma_shift_video", "sigma_shift_audio")
    return [float(options.get(f"minimax_h3_{name}", getattr(dit, name))) for name in names]


def one_schedule(dit: object, options: dict[str, Any]) -> dict[str, Any]:
    """Return the transformer options of a forward whose sound has the noise level of its video.

    ComfyUI versions that scale the sound within the model then take it as its VAE has it.

    Args:
        dit: The model.
        options: Options of the forward.
    """
    if not hasattr(dit, "sigma_shift_audio"):
        return {}
    return {"minimax_h3_sigma_shift_audio": shifts_of(dit, options["transformer_options"])[0]}


def _following(sigma: float, schedule: Tensor) -> float | None:
    """Return the noise level after one of a schedule; None where there is no lower one."""
    levels = schedule.double().cpu()
    at = int((levels - sigma).abs().argmin())
    following = float(levels[at + 1]) if at + 1 < len(levels) else None
    return None if following is None or not following < sigma else following


def module_of(dit: object) -> Any:
    """Return the Python module of a model's class, compiled or not."""
    kind = type(getattr(dit, "_orig_mod", dit))
    return sys.modules[kind.__module__]
