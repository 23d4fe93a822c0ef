"""What a step is going to need, said before it begins."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import comfy.model_management
import torch

from ...adastate_core.errors import ConfigError
from ...adastate_core.rollout.latent_block import LatentBlock
from ..devices import same_device
from ..model.binding import BoundModel
from .cache_bytes import CacheBytes, CacheChoice, computing_dtype, text_bytes
from .length import pace_of
from .packing import BlockPacking

_LEAST_ACTIVATIONS = 5
"""Activations as wide as the model that attention cannot do without: what goes on beside it, its
queries, keys and values, and its result."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of the chunks to come, and how long these are.

    Args:
        one_cache_bytes: One KV cache.
        caches: KV caches that exist at the same time.
        ready_bytes: Keys that a chunk keeps rotated for its steps.
        activation_bytes: What the host expects a forward of one conditioning to take besides the
            weights. It forwards two together only where memory allows.
        weight_bytes: Weights of the model, or of the larger one of a pair.
        length: How many chunks, frames and seconds are made, as text.
        text_bytes: Keys and values of prompts that are prefilled.
        proposal: What to change where that does not fit the device; empty where it does.
    """

    one_cache_bytes: int
    caches: int
    ready_bytes: int
    activation_bytes: int
    weight_bytes: int
    length: str
    text_bytes: int = 0
    proposal: str = ""

    def working(self, *, apart: bool) -> int:
        """Return the bytes that have to be on the device while a chunk is made.

        Args:
            apart: Whether KV caches are kept elsewhere.
        """
        return self.activation_bytes + self.ready_bytes + (0 if apart else self.cache_bytes)

    @property
    def cache_bytes(self) -> int:
        """Return the bytes that the KV caches take together, those of prefilled text included."""
        return self.caches * self.one_cache_bytes + self.text_bytes

    @property
    def begins_with_bytes(self) -> int:
        """Return the bytes of the caches that a run goes on from."""
        return self.one_cache_bytes + self.text_bytes

    def __str__(self) -> str:
        """Say in one line what takes how much."""
        return (
            f"memory of past frames {gib(self.cache_bytes)}, one forward "
            f"{gib(self.activation_bytes + self.ready_bytes)}, weights {gib(self.weight_bytes)}"
        )


def plan_memory(
    models: list[BoundModel],
    block: LatentBlock,
    *,
    guided: bool,
    chunks: int,
    together: int,
    first: bool,
    fps: float = 16.0,
    text_tokens: int = 0,
) -> MemoryPlan:
    """Plan the memory of the chunks to come.

    Args:
        models: The model, or the pair.
        block: A block without anything in it.
        guided: Whether the negative conditioning takes part.
        chunks: Chunks to come.
        together: Chunks of one run.
        first: Whether the first of them begins the video.
        fps: Frames per second of the video.
        text_tokens: Tokens of text that is prefilled, of both prompts together.

    Raises:
        ConfigError: If what cannot be moved away exceeds the memory of a device, even if nothing
            else were there.
    """
    bound, model = models[0], models[0].model
    copies = block.video.shape[0] * (1 + guided) * len(models)
    own = CacheBytes.of(bound, block, CacheChoice.of(bound), copies)
    text = text_bytes(models, text_tokens) * block.video.shape[0]
    _require_room(
        bound, cache=own.seen + text, forward=own.ready + _least_activations(bound, block)
    )
    # The one that a run began from, which a failure falls back to, the one that a commit
    # reads and the one that it writes; for a single chunk the first two are one.
    caches = min(together, 2) + 1
    shape = BlockPacking(bound.traits.sound).packed_shape(block)
    plan = MemoryPlan(
        one_cache_bytes=own.one_cache,
        caches=caches,
        ready_bytes=own.ready,
        activation_bytes=int(model.model.memory_required(list(shape))),
        weight_bytes=max(int(each.model.model_size()) for each in models),
        length=pace_of(bound, fps).describe(chunks, begins=first),
        text_bytes=text,
    )
    return replace(plan, proposal=_proposal(plan, bound, block, copies))


def _proposal(plan: MemoryPlan, bound: BoundModel, block: LatentBlock, copies: int) -> str:
    """Return what to change so that a run fits the device, what costs it least first."""
    device = bound.model.load_device
    total = comfy.model_management.get_total_memory(device)
    if plan.working(apart=CacheChoice.of(bound).apart) <= total:
        return ""
    for names, choice in CacheChoice.of(bound).smaller(can_leave=device.type != "cpu"):
        less = CacheBytes.of(bound, block, choice, copies)
        other = replace(plan, one_cache_bytes=less.one_cache, ready_bytes=less.ready)
        if other.working(apart=choice.apart) <= total:
            changes = " and ".join(names)
            needed = other.working(apart=choice.apart)
            return f"set {changes} on Apply AdaState, which needs {number(needed)} GiB"
    return "take a smaller latent: no window, precision or place of the cache would be enough"


def announce(plan: MemoryPlan, bound: BoundModel) -> str:
    """Log a plan and return it as a text, with a warning if it cannot fit the device.

    The host moves weights away for the rest, so that alone is no reason to warn.
    """
    device = bound.model.load_device
    working = plan.working(apart=CacheChoice.of(bound).apart)
    needed = working + plan.weight_bytes
    total = comfy.model_management.get_total_memory(device)
    said = f"{plan.length}; needs {_about(needed)} GiB; {owner(device)} has {number(total)}"
    if needed > total >= working:
        said += ", so parts of the model wait in system memory, which is slower"
    logging.info("AdaState: %s (%s).", said, plan)
    if working <= total:
        return said
    said += f", which is probably too little; {plan.proposal}"
    logging.warning("AdaState: %s.", said)
    return said


def _require_room(bound: BoundModel, *, cache: int, forward: int) -> None:
    """Refuse what no device has room for, even with the weights elsewhere.

    What the host expects of a forward is meant for planning, and runs have got by with less: only
    what they certainly take counts here.

    Args:
        bound: The MODEL.
        cache: Bytes of the keys and values that one chunk sees, its own included.
        forward: Bytes that a forward takes at least.

    Raises:
        ConfigError: If they exceed the memory of the device they are on.
    """
    device = bound.model.load_device
    place = bound.pool.kv_format.device or device
    needs = {place: cache}
    shared = place if same_device(place, device) else device
    needs[shared] = needs.get(shared, 0) + forward
    for where, needed in needs.items():
        total = comfy.model_management.get_total_memory(where)
        if needed <= total:
            continue
        remedy = "take a smaller width and height"
        if same_device(place, where):
            remedy += ", or lower window_frames or set cache_precision to fp8 "
            remedy += "or cache_place to system memory " if where.type != "cpu" else ""
            remedy += "on Apply AdaState"
        raise ConfigError(
            "memory for the KV cache",
            problem=(
                f"this needs about {number(needed)} GiB, and {owner(where)} has {number(total)}"
            ),
            seen=f"{gib(needed)} planned",
            expected=f"at most the {gib(total)} of {where}",
            remedy=remedy,
        )


def _least_activations(bound: BoundModel, block: LatentBlock) -> int:
    """Return the bytes that a forward of one conditioning over a block takes at least."""
    traits, (batch, _, frames, *size) = bound.traits, block.video.shape
    tokens = traits.geometry(*size).tokens_per_frame * frames
    if block.sound is not None and traits.sound is not None:
        tokens += traits.sound.tokens * block.sound.shape[2]
    kept = tokens * traits.width * computing_dtype(bound.model).itemsize
    return _LEAST_ACTIVATIONS * batch * kept


def owner(device: torch.device) -> str:
    """Return whose memory a device has."""
    return "your computer" if device.type == "cpu" else "your card"


def gib(count: int) -> str:
    """Return bytes in GiB for a log."""
    return f"{count / 2**30:.2f} GiB"


def _about(count: int) -> str:
    """Return bytes in GiB as one says them."""
    return f"about {number(count)}" if count > 0.1 * 2**30 else "less than 0.1"


def number(count: int) -> str:
    """Return bytes in GiB as a number that is short."""
    size = count / 2**30
    return f"{size:.0f}" if size >= 10 else f"{size:.1f}".removesuffix(".0")
