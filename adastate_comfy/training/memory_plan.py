"""What training will need, said before it begins, and refused where there is no room."""

from __future__ import annotations

import logging

import comfy.model_management
import torch

from ...adastate_core.errors import ConfigError
from ...adastate_core.rollout.latent_block import LatentBlock
from ...adastate_core.training.memory import TrainingMemory, plan_training
from ..model.binding import BoundModel
from ..sampling.cache_bytes import CacheBytes, CacheChoice
from ..sampling.memory_plan import gib, number, owner
from .adapter import linear_shapes

_CACHES = 2
"""A commit reads one and writes the other."""


def plan_memory(
    bound: BoundModel, block: LatentBlock, rank: int, dtype: torch.dtype
) -> TrainingMemory:
    """Estimate the bytes of a run.

    Args:
        bound: The MODEL.
        block: A block of the largest clip without anything in it.
        rank: Rank of the adapter.
        dtype: In which type the model computes.
    """
    choice = CacheChoice.of(bound)
    own, config = CacheBytes.of(bound, block, choice, 1), bound.config
    tokens = bound.traits.geometry(*block.video.shape[3:]).tokens_per_frame
    return plan_training(
        linear_shapes(bound.model.get_model_object("diffusion_model")),
        rank=rank,
        tokens=tokens * block.video.shape[2],
        context=tokens * bound.policy.kept_frames(config),
        width=bound.traits.width,
        itemsize=dtype.itemsize,
        weights=int(bound.model.model_size()),
        caches=_CACHES * own.one_cache + own.ready,
    )


def require_room(plan: TrainingMemory, device: torch.device, *, checkpointing: bool) -> str:
    """Say in a line what a run takes, and refuse one that cannot fit.

    Args:
        plan: The plan.
        device: Where the model is trained.
        checkpointing: Whether gradient checkpointing is on.

    Raises:
        ConfigError: If it exceeds the memory of the device.
    """
    total = comfy.model_management.get_total_memory(device)
    needed = plan.total(checkpointing=checkpointing)
    said = f"training needs about {number(needed)} GiB, and {owner(device)} has {number(total)}"
    detail = (
        f"weights {gib(plan.weights)}, adapter and optimiser {gib(plan.adapter)}, past frames "
        f"{gib(plan.caches)}, activations {gib(plan.activations)}, or "
        f"{gib(plan.with_checkpoints)} with gradient_checkpointing"
    )
    if needed <= total:
        logging.info("AdaState: %s (%s).", said, detail)
        return said
    if not checkpointing and plan.total(checkpointing=True) <= total:
        remedy = "turn gradient_checkpointing on"
    elif plan.total(checkpointing=True) - plan.weights // 2 <= total:
        remedy = "load the weights as fp8, or lower width and height"
    else:
        remedy = "lower width and height, or train a smaller model"
    raise ConfigError(
        "memory for training", problem=said, seen=detail, expected=gib(total), remedy=remedy
    )
