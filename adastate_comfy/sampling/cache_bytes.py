"""Bytes of the keys and values of a stream, under the options that an artist has, and under others.

What they take is known before a run: how many latent frames and how much sound slot 0 and the
window hold, and what a unit of each takes in all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from comfy.model_patcher import ModelPatcher

from ...adastate_core.config import Precision, StreamConfig
from ...adastate_core.rollout.latent_block import LatentBlock
from ..devices import same_device
from ..model.binding import BoundModel

FP8, APART = "cache_precision to fp8", "cache_place to system memory"


@dataclass(frozen=True, slots=True)
class CacheChoice:
    """The options that decide how much memory the past takes, and where.

    Args:
        config: The options of the stream; window and precision count.
        apart: Whether the past is kept elsewhere than where the model computes.
    """

    config: StreamConfig
    apart: bool

    @property
    def precision(self) -> Precision:
        """Return how keys and values are kept."""
        return self.config.cache_precision

    @classmethod
    def of(cls, bound: BoundModel) -> CacheChoice:
        """Return what was chosen for a MODEL."""
        device = bound.model.load_device
        return cls(bound.config, not same_device(bound.pool.kv_format.device or device, device))

    def smaller(self, *, can_leave: bool) -> Iterator[tuple[tuple[str, ...], CacheChoice]]:
        """Yield choices that take less, what costs a stream least first, and how to make them.

        Args:
            can_leave: Whether there is another place than where the model computes.
        """
        config = self.config
        found: list[tuple[tuple[str, ...], CacheChoice]] = []
        if config.cache_precision == "model" and config.anchor not in ("ema", "dual_ema"):
            rounded = replace(self, config=replace(config, cache_precision="fp8"))
            found.append(((FP8,), rounded))
        if can_leave and not self.apart:
            found.append(((APART,), replace(self, apart=True)))
        if len(found) == 2:
            found.append(((FP8, APART), replace(found[0][1], apart=True)))
        yield from found
        names, least = found[-1] if found else ((), self)
        window = config.chunk_frames
        if window < config.window_frames and config.anchor != "rolling":
            shorter = replace(least.config, window_frames=window)
            yield (f"window_frames to {window}", *names), replace(least, config=shorter)


@dataclass(frozen=True, slots=True)
class CacheBytes:
    """Bytes of the past of one stream.

    Args:
        one_cache: One KV cache.
        ready: What a chunk has ready of it for its steps besides.
        seen: What one chunk sees, its own keys and values included.
    """

    one_cache: int
    ready: int
    seen: int

    @classmethod
    def of(
        cls, bound: BoundModel, block: LatentBlock, choice: CacheChoice, copies: int
    ) -> CacheBytes:
        """Count the bytes of a choice.

        Args:
            bound: The MODEL.
            block: A block without anything in it.
            choice: The options.
            copies: Caches that are kept of one point of the stream: one for every video,
                conditioning and model.
        """
        policy, config = bound.policy, choice.config
        frames, window = policy.kept_frames(config), config.window_frames
        heard = window + (policy.sink_frames(config) if config.anchor_sound else 0)
        held = _Held.of(bound, block, choice.precision)
        clock = bound.traits.clock
        ticks = None if block.sound is None or clock is None else clock.most_ticks(heard)
        kept, ready = held.bytes_of(frames, ticks)
        one_cache, ready = kept * copies, ready * copies
        if choice.precision != "model" or bound.pool.kv_format.reads_per_layer or choice.apart:
            ready = 0
        if choice.apart:
            # Two layers at a time are on their way to the device.
            ready = 2 * one_cache // bound.traits.layers
        own = None if block.sound is None else block.sound.shape[2]
        block_bytes, _ = held.bytes_of(block.video.shape[2], own)
        return cls(one_cache, ready, one_cache + block_bytes * copies)


@dataclass(frozen=True, slots=True)
class _Held:
    """In which form keys and values are kept and computed."""

    bound: BoundModel
    size: tuple[int, int]
    held: torch.dtype
    computed: torch.dtype
    precision: Precision

    @classmethod
    def of(cls, bound: BoundModel, block: LatentBlock, precision: Precision) -> _Held:
        computed = computing_dtype(bound.model)
        held = torch.float32 if bound.policy.averages != "none" else computed
        height, width = block.video.shape[3:]
        return cls(bound, (height, width), held, computed, precision)

    def bytes_of(self, frames: int, ticks: int | None) -> tuple[int, int]:
        """Return the bytes of some units as they are kept, and as a chunk has them ready."""
        traits = self.bound.traits
        values = traits.cache_values(*self.size, frames, ticks)
        kept = values * self.held.itemsize
        if self.precision == "fp8":
            kept = values + traits.cache_scales(frames, ticks) * self.held.itemsize
        # Values are used as they are kept; keys are rotated, and both are cast where types differ.
        ready = values * self.computed.itemsize
        return kept, ready // 2 if self.held == self.computed else ready


def text_bytes(models: Sequence[BoundModel], tokens: int) -> int:
    """Return the bytes of the keys and values of prefilled text, in all layers of some models.

    They are kept as they were computed, whatever the precision of past frames is.
    """
    return sum(
        each.traits.text_values(tokens) * computing_dtype(each.model).itemsize for each in models
    )


def computing_dtype(model: ModelPatcher) -> torch.dtype:
    """Return the type that a model computes in; its weights may be kept in a smaller one."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()
    assert isinstance(dtype, torch.dtype)
    return dtype
