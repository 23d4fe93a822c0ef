"""A copy of a MODEL with an adapter on it, which is all that training changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adastate_core.attention.chunk_attention import ChunkAttention
from ...adastate_core.attention.kv_cache import KVCache
from ...adastate_core.errors import ConfigError, UnsupportedFamilyError
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.stream.conditioning import Conditioning
from ..model.binding import BoundModel, bind, bound_model
from ..progress import SamplingProgress
from .adapter import StateAdapter, blocks_of
from .block_gradients import BlockGradients
from .session import LearningSession, TrainingHost, precision, with_plain_attention


@dataclass(frozen=True, slots=True, repr=False)
class Learner:
    """A copy of a MODEL that learns.

    Args:
        bound: The copy.
        adapter: The adapter on it.
        dtype: In which type the copy computes.
        gradients: How its blocks keep what gradients need.
    """

    bound: BoundModel
    adapter: StateAdapter
    dtype: torch.dtype
    gradients: BlockGradients

    @classmethod
    def of(
        cls,
        bound: BoundModel,
        rank: int,
        seed: int,
        dtype: torch.dtype,
        *,
        checkpointing: bool,
        begin: Mapping[str, Tensor] | None = None,
    ) -> Learner:
        """Copy a MODEL and put an adapter on it.

        Args:
            bound: The MODEL, which stays as it is.
            rank: Rank of the adapter.
            seed: Seed of its random half.
            dtype: In which type the copy computes.
            checkpointing: Whether blocks run again for their gradients.
            begin: A LoRA to begin with, or None.

        Raises:
            ConfigError: If the host cannot load the weights a second time, or the LoRA does not
                fit.
        """
        copy = _copied(bound, dtype)
        adapter = StateAdapter(copy.model, rank, seed, begin)
        device = copy.model.load_device
        gradients = BlockGradients(checkpointing, False, lambda: precision(device, dtype))
        return cls(copy, adapter, dtype, gradients)

    def open(
        self,
        prompts: tuple[Conditioning, ...],
        sampler: comfy.samplers.Sampler,
        sigmas: Tensor,
        blank: LatentBlock,
        progress: SamplingProgress,
        body: Callable[[LearningSession], None],
    ) -> None:
        """Open a sampling run in which the adapter learns, and call `body` in it.

        Args:
            prompts: All prompts, by index.
            sampler: With which the model makes its own past.
            sigmas: The noise levels of that.
            blank: A block of the largest clip without anything in it.
            progress: Where is reported what is done.
            body: Is called with the session.
        """
        host = TrainingHost(
            self.bound, sampler, sigmas, 1.0, blank, progress, prompts=prompts, dtype=self.dtype
        )
        blocks = blocks_of(self.bound.model.get_model_object("diffusion_model"))
        kept = self.gradients.of([block for _, block in blocks])

        def rehearsed(session: LearningSession) -> None:
            self._rehearse(session, blank)
            body(session)

        with self.adapter.injected(), kept, _in_training():
            host.open(rehearsed)

    def _rehearse(self, session: LearningSession, blank: LatentBlock) -> None:
        """Find out whether the model has gradients, and whether its blocks have to be copied.

        Raises:
            ConfigError: If there is no room for a step.
            UnsupportedFamilyError: If the model has no gradients.
        """
        bound = self.bound
        geometry = bound.traits.geometry(*blank.video.shape[3:])
        past = {0: KVCache.empty(bound.pool.kv_format)}
        try:
            session.rehearse_gradients(ChunkAttention(bound.config, bound.policy, past, geometry))
        except comfy.model_management.OOM_EXCEPTION as error:
            raise ConfigError(
                "memory for training",
                problem="the memory of your card is not enough for this training",
                seen=str(error),
                expected="room for one step",
                remedy="turn gradient_checkpointing on, load the weights as fp8, or lower width "
                "and height",
            ) from error
        except RuntimeError as error:
            self.adapter.forget()
            if not self.gradients.copied:
                self.gradients.copied = True
                self._rehearse(session, blank)
                return
            raise UnsupportedFamilyError(
                "model",
                problem=(
                    f"{bound.traits.family} cannot be trained in this ComfyUI, which computes a "
                    "part of it without gradients"
                ),
                seen=str(error),
                expected="operations that have gradients",
                remedy="train another model, or try another version of ComfyUI",
            ) from error
        self.adapter.forget()


def _copied(bound: BoundModel, dtype: torch.dtype) -> BoundModel:
    """Return a MODEL of its own with the same weights, patches and options."""
    model: ModelPatcher = bound.model
    if model.cached_patcher_init is None:
        raise ConfigError(
            "model",
            problem=(
                "the weights of this MODEL cannot be loaded a second time, and training takes a "
                "copy of its own"
            ),
            seen="a MODEL from a loader that ComfyUI cannot call again",
            expected="one from a loader of ComfyUI or from Load Streaming Model",
            remedy="load the model with Load Streaming Model",
        )
    copy = bind(model.clone(force_deepcopy=True), bound.config)
    copy.set_model_compute_dtype(dtype)
    copy.model.requires_grad_(False)
    with_plain_attention(copy)
    return bound_model(copy)


@contextmanager
def _in_training() -> Iterator[None]:
    """Have the host's models compute by operations that have gradients."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before
