"""What a step is going to need, said before it begins."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ...adastate_core.errors import ConfigError
from ...adastate_core.rollout.latent_block import LatentBlock
from ..devices import same_device
from ..model.binding import BoundModel
from .length import pace_of

_REMEDY = (
    "lower window_frames, or set cache_precision to fp8 or cache_place to system memory, on Apply "
    "AdaState; or take a smaller latent"
)
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
    """

    one_cache_bytes: int
    caches: int
    ready_bytes: int
    activation_bytes: int
    weight_bytes: int
    length: str

    @property
    def cache_bytes(self) -> int:
        """Return the bytes that the KV caches take together."""
        return self.caches * self.one_cache_bytes

    def __str__(self) -> str:
        """Say in one line what takes how much."""
        return (
            f"memory of past frames {_gib(self.cache_bytes)}, one forward "
            f"{_gib(self.activation_bytes + self.ready_bytes)}, weights {_gib(self.weight_bytes)}"
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

    Raises:
        ConfigError: If what cannot be moved away exceeds the memory of a device, even if nothing
            else were there.
    """
    batch, _, frames, height, width = block.video.shape
    bound = models[0]
    config, model = bound.config, bound.model
    kept = bound.policy.kept_frames(config)
    size = _FrameBytes.of(bound, (height, width))
    copies = batch * (1 + guided) * len(models)
    kv_format, device = bound.pool.kv_format, model.load_device
    ready_bytes = 0 if kv_format.reads_per_layer else size.ready * kept * copies
    if not same_device(kv_format.device or device, device):
        # Two layers at a time are on their way to the device.
        ready_bytes = 2 * size.kept * kept * copies // bound.traits.layers
    _require_room(
        bound,
        cache=size.kept * (frames + kept) * copies,
        forward=ready_bytes + batch * frames * _least_activations(bound, (height, width)),
    )
    one_cache_bytes = size.kept * kept * copies
    return MemoryPlan(
        one_cache_bytes=one_cache_bytes,
        # The one that a run began from, which a failure falls back to, the one that a commit
        # reads and the one that it writes; for a single chunk the first two are one.
        caches=min(together, 2) + 1,
        ready_bytes=ready_bytes,
        activation_bytes=int(model.model.memory_required(list(block.video.shape))),
        weight_bytes=max(int(each.model.model_size()) for each in models),
        length=pace_of(bound, fps).describe(chunks, begins=first),
    )


def announce(plan: MemoryPlan, bound: BoundModel) -> str:
    """Log a plan and return it as a text, with a warning if it cannot fit the device.

    The host moves weights away for the rest, so that alone is no reason to warn.
    """
    device = bound.model.load_device
    working = plan.activation_bytes + plan.ready_bytes
    if same_device(bound.pool.kv_format.device or device, device):
        working += plan.cache_bytes
    needed = working + plan.weight_bytes
    total = comfy.model_management.get_total_memory(device)
    said = f"{plan.length}; needs {_about(needed)} GiB; {_owner(device)} has {_number(total)}"
    if needed > total >= working:
        said += ", so parts of the model wait in system memory, which is slower"
    logging.info("AdaState: %s (%s).", said, plan)
    if working <= total:
        return said
    said += f", which is probably too little; {_REMEDY}"
    logging.warning("AdaState: %s.", said)
    return said


def computing_dtype(model: ModelPatcher) -> torch.dtype:
    """Return the type that a model computes in; its weights may be kept in a smaller one."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()
    assert isinstance(dtype, torch.dtype)
    return dtype


@dataclass(frozen=True, slots=True)
class _FrameBytes:
    """Bytes of the keys and values of one latent frame, in all layers.

    Args:
        kept: In the form in which a KV cache keeps them.
        ready: In the form in which a chunk has them ready for its steps, as far as that is not
            what the KV cache keeps.
    """

    kept: int
    ready: int

    @classmethod
    def of(cls, bound: BoundModel, size: tuple[int, int]) -> _FrameBytes:
        traits, computed = bound.traits, computing_dtype(bound.model)
        held = torch.float32 if bound.policy.averages != "none" else computed
        values = traits.cache_values(*size, 1)
        kept = values * held.itemsize
        if bound.config.cache_precision == "fp8":
            kept = values + traits.cache_scales(1) * held.itemsize
        # Values are used as they are kept; keys are rotated, and both are cast where types differ.
        ready = values * computed.itemsize
        return cls(kept, ready // 2 if held == computed else ready)


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
                f"this needs about {_number(needed)} GiB, and {_owner(where)} has {_number(total)}"
            ),
            seen=f"{_gib(needed)} planned",
            expected=f"at most the {_gib(total)} of {where}",
            remedy=remedy,
        )


def _least_activations(bound: BoundModel, size: tuple[int, int]) -> int:
    """Return the bytes of one latent frame that a forward of one conditioning takes at least."""
    tokens = bound.traits.geometry(*size).tokens_per_frame
    kept = tokens * bound.traits.width * computing_dtype(bound.model).itemsize
    return _LEAST_ACTIVATIONS * kept


def _owner(device: torch.device) -> str:
    return "your computer" if device.type == "cpu" else "your card"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _about(count: int) -> str:
    """Return bytes in GiB as one says them."""
    return f"about {_number(count)}" if count > 0.1 * 2**30 else "less than 0.1"


def _number(count: int) -> str:
    gib = count / 2**30
    return f"{gib:.0f}" if gib >= 10 else f"{gib:.1f}".removesuffix(".0")
