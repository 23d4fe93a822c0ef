"""The host side of a training run: one sampling run of the host, in which an adapter learns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.samplers
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ...adastate_core.attention.block_attention import BlockAttention
from ...adastate_core.errors import UnsupportedFamilyError
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.rollout.noise import BlockNoise, CommitNoise
from ...adastate_core.stream.conditioning import Conditioning
from ...adastate_core.training.rollout import velocity_loss
from ..sampling.session import ComfyHost, ComfySession
from ..sockets.conditioning import restore

_LEAST_TIME = 0.001
"""Least share of noise that is learned at: a velocity is a difference over it."""
_WHOLE = "adastate_train"
_OVERRIDE = "optimized_attention_override"


def flow_time(model: ModelPatcher, sigma: float) -> float:
    """Return which share of latents is noise at a noise level.

    Raises:
        UnsupportedFamilyError: If the model does not learn a flow.
    """
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.CONST):
        return sigma
    if isinstance(sampling, comfy.model_sampling.COSMOS_RFLOW):
        return sigma / (1.0 + sigma)
    raise UnsupportedFamilyError(
        "model",
        problem="Train State Adapter trains models that learn a flow, and this one does not",
        seen=", ".join(base.__name__ for base in type(sampling).__mro__[1:3]),
        expected="a flow-matching model",
        remedy="remove nodes that change the sampling of the model",
    )


def precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which a model computes in a type, its adapter kept in float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def with_plain_attention(model: ModelPatcher) -> None:
    """Have a copy of a MODEL compute its attention by torch, whose gradients are exact.

    Kernels that are faster may have no gradient.
    """

    def plain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return attention_pytorch(*args, **kwargs)

    model.model_options.setdefault("transformer_options", {})[_OVERRIDE] = plain


@dataclass(frozen=True, slots=True, repr=False)
class TrainingHost(ComfyHost):
    """A copy of a MODEL that an adapter is trained on.

    Args:
        prompts: All prompts, by index.
        dtype: In which type the model computes.
    """

    prompts: tuple[Conditioning, ...] = ()
    dtype: torch.dtype = torch.float32

    def _options(self) -> dict[str, Any]:
        """Return the options of a run for which all weights are loaded: gradients need them."""
        options = ComfyHost._options(self)
        kind = WrappersMP.PREPARE_SAMPLING
        add_wrapper_with_key(kind, _WHOLE, _load_whole, options, is_model_options=True)
        return options

    def open(self, body: Callable[[LearningSession], None]) -> None:
        """Open a sampling run under all prompts and call `body` in it."""
        frames = self.blank.video.shape[2]
        names = tuple(f"positive {n}" if n else "positive" for n in range(len(self.prompts)))
        named = {n: ("", restore(c, frames)) for n, c in zip(names, self.prompts, strict=True)}

        def opened(
            guider: Any, sigmas: Tensor, options: dict[str, Any], device: torch.device
        ) -> None:
            session = LearningSession(self, guider, sigmas, options, device, names)
            session.check_layout()
            body(session)

        self.sample(named, opened)


def _load_whole(executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return executor(*args, **{**kwargs, "force_full_load": True})


class LearningSession(ComfySession):
    """An open sampling run in which an adapter learns."""

    _host: TrainingHost

    def check_layout(self) -> None:
        """Compare the model with its descriptor, in the type in which it is trained."""
        with self._precision:
            super().check_layout()

    def forward_clean(
        self, block: LatentBlock, view: BlockAttention, noise: CommitNoise | None = None
    ) -> None:
        """Forward a clean block, in the type in which the model is trained."""
        with self._precision:
            super().forward_clean(block, view, noise)

    def learn(
        self,
        block: LatentBlock,
        noise: LatentBlock,
        level: float,
        view: BlockAttention,
        weight: float,
    ) -> float:
        """Forward a noised block, and add to the gradients of the adapter."""
        sampling = self._guider.inner_model.model_sampling
        sigma = max(float(sampling.percent_to_sigma(level)), _LEAST_TIME)
        time = flow_time(self._host.bound.model, sigma)
        with torch.enable_grad():
            loss = velocity_loss(
                self.predict(block, noise, sigma, view), self._on_device(block), time
            )
            (loss * weight).backward()
        return float(loss.detach())

    def predict(
        self, block: LatentBlock, noise: LatentBlock, sigma: float, view: BlockAttention
    ) -> Tensor:
        """Return what the model makes of a noised block.

        Args:
            block: The block, clean.
            noise: Its noise.
            sigma: Its noise level.
            view: The block with the past in view.
        """
        clean = self._on_device(block)
        levels = self._sigmas.new_full((len(clean),), sigma)
        x = self._with_noise(clean, CommitNoise(sigma, noise), levels)
        options = self._arguments(view, 0, block)["model_options"]
        (index,) = view.conditionings
        given = [self._conditionings[index]]
        inner = self._guider.inner_model
        with self._precision:
            denoised: Tensor = comfy.samplers.calc_cond_batch(inner, given, x, levels, options)[0]
        return denoised

    def rehearse_gradients(self, view: BlockAttention) -> None:
        """Forward a block without anything in it, and back.

        Raises:
            RuntimeError: If an operation of the model has no gradient, or writes over what its
                gradient needs.
        """
        blank = LatentBlock(torch.zeros(self._host.blank.video.shape))
        self.learn(blank, blank, 0.5, view, 0.0)

    def remake(
        self, block: LatentBlock, noise: BlockNoise, start: float, view: BlockAttention
    ) -> LatentBlock:
        """Put noise on a clean block and let the model take it off, as it samples."""
        steps = len(self._schedule) - 1
        # From the first level on nothing of the clip would be left, nor of what comes after it.
        first = min(steps - 1, 1 + int(start * (steps - 1)))
        (index,) = view.conditionings
        given = self._guider.conds
        # A sampler asks the host's guider, which knows one prompt.
        self._guider.conds = {**given, "positive": self._conditionings[index]}
        try:
            with self._precision:
                made = self.sample(noise, view, self._schedule[first:], onto=block)
        finally:
            self._guider.conds = given
        return made.map(lambda x: x.detach().float().cpu())

    def _on_device(self, block: LatentBlock) -> Tensor:
        return self._packing.pack(block).to(self._device, torch.float32)

    @property
    def _precision(self) -> AbstractContextManager[object]:
        return precision(self._device, self._host.dtype)
