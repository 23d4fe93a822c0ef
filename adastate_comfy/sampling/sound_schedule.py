"""The sound's own noise levels under a sampler that knows those of the video alone.

ComfyUI's lcm begins every step anew: from what the model takes for clean, and fresh noise. So the
noise in what it hands over is known, and a sound of any other noise level can be made of it: of the
level that the model is told. What comes back is what is clean in that, without the slope by which
MiniMax H3 multiplies it (`sound_steps`).
"""

from __future__ import annotations

from typing import Any

import comfy.k_diffusion.sampling
import comfy.samplers
import torch
from torch import Tensor

from ...adastate_core.rollout.latent_block import LatentBlock
from .packing import BlockPacking
from .sound_steps import module_of, shifts_of


def begins_anew(sampler: comfy.samplers.Sampler) -> bool:
    """Say whether a SAMPLER makes every step of what is clean and of fresh noise."""
    function = getattr(sampler, "sampler_function", None)
    return function is comfy.k_diffusion.sampling.sample_lcm


class OwnSoundSchedule:
    """A guider whose sound is at the noise levels of its own schedule, for one block.

    Args:
        guider: The guider of a session.
        packing: How blocks are packed.
        block: A block of the same shapes.
    """

    def __init__(self, guider: Any, packing: BlockPacking, block: LatentBlock) -> None:
        self._guider, self._packing, self._like = guider, packing, block
        self._clean: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        """Give what samplers ask of the guider."""
        return getattr(self._guider, name)

    def __call__(self, x: Tensor, sigma: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the model takes for clean."""
        dit, level = self._guider.inner_model.diffusion_model, sigma.flatten()[:1].float()
        shifts = shifts_of(dit, kwargs["model_options"]["transformer_options"])
        module, block = module_of(dit), self._packing.unpack(x, self._like)
        own = module.time_shift_sigma(level, *shifts)
        assert block.sound is not None  # others are not sampled so
        clean = torch.zeros_like(block.sound) if self._clean is None else self._clean
        noise = (block.sound - (1.0 - level) * clean) / level
        sound = (1.0 - own) * clean + own * noise
        given = self._packing.pack(LatentBlock(block.video, sound))
        made = self._packing.unpack(self._guider(given, sigma, *args, **kwargs), self._like)
        assert made.sound is not None
        direction = (sound - made.sound) / (level * module.time_shift_slope(level, *shifts))
        self._clean = sound - own * direction
        return self._packing.pack(LatentBlock(made.video, self._clean))
