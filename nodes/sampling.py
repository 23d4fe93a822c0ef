"""Run the core's recurrence inside ComfyUI's own sampling: the host side of a step.

`ComfyHost.run` opens one ordinary sampling session (conditionings, model loading, guidance all
stay the host's) whose SAMPLER is ours: it calls the core, and the core calls back here to
denoise a block with the artist's SAMPLER or to forward a clean block.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..adastate_core.attention import BlockPass
from ..adastate_core.noise import BlockNoise
from ..adastate_core.rollout import Session
from ..adastate_core.state import Conditions
from .bridge import VIEW
from .progress import StreamProgress


@dataclass(frozen=True, slots=True, repr=False)
class ComfyHost:
    """Own one model for one step.

    Args:
        model: A MODEL that went through Apply AdaState.
        sampler: The artist's SAMPLER.
        sigmas: The artist's SIGMAS, ending at 0.
        cfg: Guidance scale.
        block_shape: Shape of the blocks, (B, C, F_s + F, H, W); the host plans memory by it.
        progress: Where steps are reported.
    """

    model: ModelPatcher
    sampler: comfy.samplers.Sampler
    sigmas: Tensor
    cfg: float
    block_shape: tuple[int, int, int, int, int]
    progress: StreamProgress

    def run(self, conditions: Conditions, body: Callable[[Session], object]) -> None:
        """Open a sampling session under these conditionings and call `body` in it."""
        blank = torch.zeros(self.block_shape)
        comfy.samplers.sample(
            self.model,
            blank,
            conditions.positive.unpack(),
            conditions.negative.unpack() if conditions.negative else [],
            self.cfg,
            self.model.load_device,
            _SessionSampler(self, body),
            self.sigmas,
            model_options=self.model.model_options,
            latent_image=blank,
            disable_pbar=True,
            seed=0,
        )


class _SessionSampler(comfy.samplers.Sampler):
    """Stand where a SAMPLER stands, and hand the open session to the core."""

    def __init__(self, host: ComfyHost, body: Callable[[Session], object]) -> None:
        self._host, self._body = host, body

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        self._body(_ComfySession(self._host, model_wrap, sigmas, extra_args, noise.device))
        # The core has recorded the chunks; what the host makes of this return value is unused.
        return noise


class _ComfySession:
    """Serve the core's two requests with the host's model and the artist's sampler."""

    def __init__(
        self,
        host: ComfyHost,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        device: torch.device,
    ) -> None:
        self._host, self._guider, self._sigmas = host, guider, sigmas
        self._extra_args, self._device = extra_args, device

    def denoise(self, noise: BlockNoise, view: BlockPass) -> Tensor:
        """Sample one block with the artist's SAMPLER."""
        start = noise.initial().to(self._device)
        sampler = _with_noise(self._host.sampler, noise, start)
        devices = [self._device] if self._device.type == "cuda" else []
        # Samplers that draw on their own use the global generators: seed a fork of them.
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(noise.sampler_seed)
            return sampler.sample(  # type: ignore[no-any-return]
                self._guider,
                self._sigmas,
                self._arguments(view, noise.sampler_seed),
                self._host.progress.step,
                start,
                torch.zeros_like(start),
                None,
                True,
            )

    def commit(self, block: Tensor, view: BlockPass) -> None:
        """Forward a clean block once at sigma 0."""
        arguments = self._arguments(view, 0)
        x = block.to(self._device)
        self._guider(x, self._sigmas.new_zeros(x.shape[0]), **arguments)
        self._host.progress.commit()

    def _arguments(self, view: BlockPass, seed: int) -> dict[str, Any]:
        options = comfy.model_patcher.create_model_options_clone(self._extra_args["model_options"])
        options["transformer_options"][VIEW] = view
        return {"model_options": options, "seed": seed}


def _with_noise(
    sampler: comfy.samplers.Sampler, noise: BlockNoise, like: Tensor
) -> comfy.samplers.Sampler:
    """Give a sampler that accepts one a noise source of ours, on a copy of it."""
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        return sampler
    if "noise_sampler" not in inspect.signature(sampler.sampler_function).parameters:
        return sampler
    ours = copy.copy(sampler)
    source = {"noise_sampler": lambda sigma, following: noise.renoise(like)}
    ours.extra_options = {**sampler.extra_options, **source}
    return ours
