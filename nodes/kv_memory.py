"""The K/V pool as a model that ComfyUI's memory management counts, moves and frees."""

from __future__ import annotations

from typing import Any, Literal

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ..adastate_core.cache import KVPool
from ..adastate_core.packing import Packing, Precision
from .devices import same_device

CachePlace = Literal["device", "system memory"]

SHARE_OF_MEMORY = 0.5
"""Largest part of a device's memory that the pool may take."""


class KVMemory(ModelPatcher):
    """Stand for a pool in the list of loaded models.

    Freed partly, it gives up the least recent sets first. They move to the offload device; where
    that is the same device, which would free nothing, they are dropped and, when needed again,
    rebuilt by one replay.
    """

    def model_size(self) -> int:
        """Count the bytes that the pool takes in the run to come, so that they are kept free."""
        return max(self.model.nbytes, self.model.expected_bytes)

    def loaded_size(self) -> int:
        """Count the bytes on the load device."""
        return sum(_size_on(kv, self.load_device) for kv in self.model.sets.values())

    def partially_load(self, device_to: torch.device, *args: Any, **kwargs: Any) -> int:
        """Bring all sets to the device."""
        self.model.to(device_to)
        self.model.device = device_to
        return 0

    def partially_unload(
        self, device_to: torch.device, memory_to_free: int = 0, *args: Any, **kwargs: Any
    ) -> int:
        """Give up the least recent sets until enough is free."""
        before = self.loaded_size()
        for key in list(self.model.sets):
            if before - self.loaded_size() >= memory_to_free:
                break
            self._give_up(key)
        return before - self.loaded_size()

    def detach(self, unpatch_all: bool = True) -> KVPool:
        """Leave the load device; without `unpatch_all`, a clone of this patcher takes over."""
        if unpatch_all:
            for key in list(self.model.sets):
                self._give_up(key)
            self.model.device = self.offload_device
            self.model.expected_bytes = 0
        return self.model

    def _give_up(self, key: str) -> None:
        if same_device(self.offload_device, self.load_device):
            self.model.drop(key)
        else:
            self.model.sets[key].to(self.offload_device)


def _size_on(kv: torch.nn.Module, device: torch.device) -> int:
    return sum(
        p.numel() * p.element_size() for p in kv.parameters() if same_device(p.device, device)
    )


def pool_for(
    model: ModelPatcher, precision: Precision, place: CachePlace
) -> tuple[KVPool, KVMemory]:
    """Make an empty pool, and its stand-in for memory management.

    Args:
        model: The model whose keys and values it keeps.
        precision: In which form they are kept.
        place: Whose memory takes them.
    """
    apart = place == "system memory"
    device, spare = model.load_device, model.offload_device
    if apart:
        device = spare = torch.device("cpu")
    total = comfy.model_management.get_total_memory(device)
    packing = Packing(precision, device if apart else None)
    pool = KVPool(max_bytes=int(total * SHARE_OF_MEMORY), packing=packing)
    return pool, KVMemory(pool, device, spare)
