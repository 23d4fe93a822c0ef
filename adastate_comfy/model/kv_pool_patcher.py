"""The pool of KV caches as a model that ComfyUI's memory management counts, moves and frees."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, cast

import comfy.model_management
import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher

from ...adastate_core.attention.kv_cache import KVCache, KVCachePool
from ...adastate_core.attention.kv_format import KVFormat
from ...adastate_core.config import Precision
from ..devices import same_device

CachePlace = Literal["device", "system memory"]

DEVICE_SHARE = 0.5
"""Largest part of a device's memory that the pool may take."""
PINNED_SHARE = 0.25
"""The same of page-locked memory, where tensors take up to twice their bytes."""

_KEY = "adastate_memory"
_EVERYTHING = 1e30
"""From this many bytes on, the host asks to load a whole model."""


class KVPoolPatcher(ModelPatcher):
    """A pool in the list of loaded models.

    Freed partly, it offloads the least recently used caches first. Where the offload device is the
    load device, which would free nothing, they are evicted and, when needed again, rebuilt by one
    replay.

    It is loaded with the model only while a run of ours lasts (`loading_with_model`). Between runs
    the host may free it for any other model.
    """

    starts_with = 0
    """Bytes of the caches that the coming run goes on from; the most recent ones."""
    _loads_with_model = False

    @property
    def pool(self) -> KVCachePool:
        """Return the pool, which the host calls its model."""
        return cast(KVCachePool, self.model)

    def announce(self, expected: int, starts_with: int) -> None:
        """Say what the coming run will hold, so that it is kept free.

        Args:
            expected: Bytes of all that it will hold at the same time.
            starts_with: Bytes of the caches that it goes on from, if they exist.
        """
        self.pool.expected_bytes = expected
        self.starts_with = starts_with

    def is_dynamic(self) -> bool:
        """Return whether it is about to be loaded with a model.

        The host frees memory for a dynamic model without unloading others of that kind. One plain
        model in the same load would make it unload the VAE and the text encoder as well. At any
        other time this is a plain model: its tensors do not leave the device on their own.
        """
        return self._loads_with_model

    def model_size(self) -> int:
        """Count the bytes that are on the load device when it is loaded."""
        away = (kv.nbytes - _size_on(kv, self.load_device) for kv in self._current())
        return self.loaded_size() + sum(away)

    def loaded_size(self) -> int:
        """Count the bytes on the load device."""
        return sum(_size_on(kv, self.load_device) for kv in self.pool.sets.values())

    def pending_bytes(self, device: torch.device) -> int:
        """Count the bytes to come on a device, besides the caches that the run goes on from."""
        if not same_device(device, self.load_device):
            return 0
        held = sum(kv.nbytes for kv in self._current())
        return max(0, self.pool.expected_bytes - held)

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, *args: Any, **kwargs: Any
    ) -> int:
        """Bring the caches that a run goes on from to the device; others stay where they are."""
        # From here on the host looks for the pages of a dynamic model, which this one has not.
        self._loads_with_model = False
        if extra_memory < 0:
            self.free_others(-extra_memory)
        for kv in self._current():
            kv.to(device_to)
        self.model.device = device_to
        return 0

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, *args: Any, **kwargs: Any
    ) -> int:
        """Offload or evict the least recently used caches until enough is free."""
        return self._offload_or_evict(list(self.pool.sets), memory_to_free)

    def free_others(self, memory_to_free: float) -> int:
        """Do the same, but keep the caches that the coming run goes on from."""
        kept = len(self._current())
        names = list(self.pool.sets)
        return self._offload_or_evict(names[: len(names) - kept], memory_to_free)

    def detach(self, unpatch_all: bool = True) -> KVCachePool:
        """Leave the load device; without `unpatch_all`, it stays for another load."""
        if unpatch_all:
            self._offload_or_evict(list(self.pool.sets), _EVERYTHING)
            self.model.device = self.offload_device
        return self.pool

    def loading_with_model(self) -> Callable[..., Any]:
        """Return a wrapper of the host's preparation that loads this pool with the model.

        The host counts it, and the bytes still to come, where it counts those of a ControlNet.
        """

        def prepare(
            executor: Callable[..., Any],
            model: ModelPatcher,
            noise_shape: list[int],
            conds: dict[str, Any],
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            self._free_others_for(model, noise_shape)
            share = {_KEY: [{"control": _PoolControl(self, model.load_device)}]}
            self._loads_with_model = True
            try:
                loaded, given, models = executor(model, noise_shape, conds | share, *args, **kwargs)
            finally:
                self._loads_with_model = False
            return loaded, {name: cond for name, cond in given.items() if name != _KEY}, models

        return prepare

    def _free_others_for(self, model: ModelPatcher, noise_shape: list[int]) -> None:
        """Free the caches of other streams before the model has to go without its weights."""
        device = model.load_device
        if same_device(device, self.load_device):
            needed = model.model_size() - model.loaded_size() + self.pending_bytes(device)
            needed += model.memory_required(list(noise_shape))
            self.free_others(needed - model.get_free_memory(device))

    def _current(self) -> list[KVCache]:
        """List the most recent caches that make up what a run goes on from, at least one."""
        found: list[KVCache] = []
        for kv in reversed(list(self.pool.caches())):
            if found and sum(each.nbytes for each in (*found, kv)) > self.starts_with:
                break
            found.append(kv)
        return found

    def _offload_or_evict(self, names: list[str], memory_to_free: float) -> int:
        before = self.loaded_size()
        for name in names:
            if before - self.loaded_size() >= memory_to_free:
                break
            if self.offload_device == self.load_device:
                self.pool.evict(name)
            else:
                self.pool.sets[name].to(self.offload_device)
        return before - self.loaded_size()


class _PoolControl(ControlBase):
    """What the host adds to a run's memory for the pool; it controls nothing."""

    def __init__(self, patcher: KVPoolPatcher, device: torch.device) -> None:
        super().__init__()
        self._patcher, self._device = patcher, device

    def get_models(self) -> list[ModelPatcher]:
        """Return what has to be loaded."""
        return [self._patcher]

    def inference_memory_requirements(self, dtype: torch.dtype) -> int:
        """Return the bytes to be kept free."""
        return self._patcher.pending_bytes(self._device)


class _RoomLeaver(ModelPatcher):
    """A model whose weights leave the announced bytes free.

    The host gives weights a share of the free memory on some devices whatever a run needs, and
    knows nothing of a run where a model is loaded outside of one.
    """

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, *args: Any, **kwargs: Any
    ) -> Any:
        """Load as many weights as the host allows and the announced bytes do."""
        pending = pool_patcher_of(self).pending_bytes(device_to)
        if pending and extra_memory < _EVERYTHING:
            management = comfy.model_management
            free = management.get_free_memory(device_to) - management.minimum_inference_memory()
            # As in the host, nothing is never asked for: that would leave a model unprepared.
            least = 0.1 - self.loaded_size()
            extra_memory = max(min(extra_memory, free - pending), least)
        return super().partially_load(device_to, extra_memory, *args, **kwargs)


def attach_pool_patcher(model: ModelPatcher, patcher: KVPoolPatcher) -> None:
    """Give a clone that is ours the pool of its KV caches.

    Args:
        model: The clone. It becomes of a class that leaves room, as do its clones; models that
            the host loads page by page make room on their own.
        patcher: The pool.
    """
    model.set_attachments(_KEY, patcher)
    if not (model.is_dynamic() or isinstance(model, _RoomLeaver)):
        kind: Any = type(model)
        model.__class__ = _room_leaver(kind)


def pool_patcher_of(model: ModelPatcher) -> KVPoolPatcher:
    """Return the pool of a MODEL that went through Apply AdaState, as a patcher."""
    return cast(KVPoolPatcher, model.get_attachment(_KEY))


def make_pool(
    model: ModelPatcher, precision: Precision, place: CachePlace
) -> tuple[KVCachePool, KVPoolPatcher]:
    """Make an empty pool, and the patcher that memory management sees.

    Args:
        model: The model whose keys and values it keeps.
        precision: In which form they are kept.
        place: Whose memory takes them.
    """
    in_system_memory = place == "system memory"
    device, spare = model.load_device, model.offload_device
    if in_system_memory:
        device = spare = torch.device("cpu")
    pinned = in_system_memory and _pins_memory(model.load_device)
    total = comfy.model_management.get_total_memory(device)
    kv_format = KVFormat(precision, device if in_system_memory else None, pinned)
    share = PINNED_SHARE if pinned else DEVICE_SHARE
    pool = KVCachePool(max_bytes=int(total * share), kv_format=kv_format)
    return pool, KVPoolPatcher(pool, device, spare)


def _pins_memory(device: torch.device) -> bool:
    """Say whether the host lets system memory be page-locked for a device."""
    limit = getattr(comfy.model_management, "MAX_PINNED_MEMORY", -1)
    return device.type == "cuda" and limit > 0


@cache
def _room_leaver(kind: Any) -> type[ModelPatcher]:
    return type(kind.__name__, (_RoomLeaver, kind), {})


def _size_on(kv: torch.nn.Module, device: torch.device) -> int:
    parameters = (p for p in kv.parameters() if same_device(p.device, device))
    return sum(p.numel() * p.element_size() for p in parameters)
