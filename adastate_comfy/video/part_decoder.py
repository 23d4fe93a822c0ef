"""A VAE that decodes part by part, as ComfyUI's memory management sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

Later = Callable[[], Tensor]
"""A tensor that a device may still be making: a function that waits for it, called once."""


class PartDecoder:
    """A decoder that goes on from part to part.

    Args:
        vae: The VAE.
        latent_shape: Latents of the largest part, as the VAE takes them.
    """

    exact = False
    """Whether the parts are those of the whole decoded in one go."""

    def __init__(self, vae: Any, latent_shape: tuple[int, ...]) -> None:
        self._vae, self._shape = vae, latent_shape
        self.loads = 0
        """How often the VAE had to be brought to its device."""
        self._held = 0.0

    @property
    def patcher(self) -> ModelPatcher:
        """The VAE as ComfyUI's memory management knows it."""
        patcher: ModelPatcher = self._vae.patcher
        return patcher

    @property
    def note(self) -> str:
        """What an artist should know about the joins; complete after the last part."""
        return ""

    @property
    def held_back(self) -> int:
        """Latents whose result may be left for later after a part, at most."""
        return 0

    @property
    def can_run_in_background(self) -> bool:
        """Whether `decode` calls no model management, so that another thread may run it.

        Known after `load` only.
        """
        return False

    @property
    def stays_loaded(self) -> bool:
        """Whether a part can be decoded now without a call of model management."""
        return False

    def load(self) -> None:
        """Load the VAE if it is not there with room to decode; in the main thread."""
        if self._is_ready():
            self._held = self.patcher.loaded_size()
            return
        self.loads += 1
        self._held = 0.0
        comfy.model_management.load_models_gpu(
            [self.patcher],
            memory_required=self._memory(),
            force_full_load=self._vae.disable_offload,
        )

    def _is_loaded(self) -> bool:
        """Say whether all weights are where they are used.

        Under Dynamic VRAM they come when they are first used, those of the encoder never, and may
        be sent away; then there are fewer than before. Asking ComfyUI to load the VAE puts it
        before others in a fight for room.
        """
        patcher = self.patcher
        loaded = comfy.model_management.loaded_models()
        if not any(patcher.is_clone(other) for other in loaded):
            return False
        if patcher.is_dynamic():
            return bool(patcher.loaded_size() >= self._held)
        return not patcher.model.model_lowvram and patcher.loaded_size() > 0

    def _memory(self) -> int:
        memory: int = self._vae.memory_used_decode(self._shape, self._vae.vae_dtype)
        return memory

    def _is_ready(self) -> bool:
        """Say whether it is loaded and has room to decode."""
        patcher = self.patcher
        if not self._is_loaded():
            return False
        wanted = self._memory() + comfy.model_management.extra_reserved_memory()
        return bool(patcher.get_free_memory(patcher.load_device) >= wanted)

    @property
    def device(self) -> torch.device:
        """Where it decodes."""
        device: torch.device = self._vae.device
        return device

    def weights(self) -> Iterator[Tensor]:
        """Yield the weights of the VAE as they lie now."""
        module = self._vae.first_stage_model
        yield from module.parameters()
        yield from module.buffers()

    def placed(self, samples: Tensor) -> Tensor:
        """Return samples where they are decoded; before, so that nothing waits for it later."""
        return samples

    def _runs_in_background(self) -> bool:
        """Say whether the weights are used as they lie.

        Weights that are not all on the device are brought there layer by layer, over streams and
        buffers that all models share.
        """
        modules = self._vae.first_stage_model.modules()
        casts = any(getattr(module, "comfy_cast_weights", False) for module in modules)
        return not (casts or self.patcher.is_dynamic())

    def _stays_ready(self) -> bool:
        """Say whether the weights are there; under Dynamic VRAM they may go before their use."""
        return not self.patcher.is_dynamic() and self._is_ready()
