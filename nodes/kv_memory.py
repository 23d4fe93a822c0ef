"""The K/V pool as a model that ComfyUI's memory management counts, moves and frees."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ..adastate_core.cache import KVPool

SHARE_OF_MEMORY = 0.5
"""Largest part of a device's memory that the pool may take."""


class KVMemory(ModelPatcher):
    """Stand for a pool in the list of loaded models.

    Freed partly, it drops the least recent sets. Freed wholly, it moves them to the offload
    device; where that is the same device, which would free nothing, it drops them. What is
    dropped is rebuilt by one replay.
    """

    def model_size(self) -> int:
        """Count the bytes of the pool as it is now; it changes with every commit."""
        return self.model.nbytes

    def loaded_size(self) -> int:
        """Count the bytes on the load device."""
        return self.model.nbytes

    def partially_load(self, device_to: torch.device, *args: Any, **kwargs: Any) -> int:
        """Bring all sets to the device."""
        self.model.to(device_to)
        self.model.device = device_to
        return 0

    def partially_unload(
        self, device_to: torch.device, memory_to_free: int = 0, *args: Any, **kwargs: Any
    ) -> int:
        """Drop the least recent sets until enough is free."""
        before = self.model.nbytes
        for key in list(self.model.sets):
            if before - self.model.nbytes >= memory_to_free:
                break
            self.model.drop(key)
        return before - self.model.nbytes

    def detach(self, unpatch_all: bool = True) -> KVPool:
        """Leave the load device; without `unpatch_all`, a clone of this patcher takes over."""
        if not unpatch_all:
            return self.model
        if self.offload_device == self.load_device:
            self.model.clear()
        else:
            self.model.to(self.offload_device)
            self.model.device = self.offload_device
        return self.model


def pool_for(model: ModelPatcher) -> tuple[KVPool, KVMemory]:
    """Make an empty pool on a model's device, and its stand-in for memory management."""
    total = comfy.model_management.get_total_memory(model.load_device)
    pool = KVPool(max_bytes=int(total * SHARE_OF_MEMORY))
    return pool, KVMemory(pool, model.load_device, model.offload_device)
