"""A LoRA on a copy of a MODEL: what learns, and what the host's own nodes save and load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import LoRAAdapter
from comfy.weight_adapter.bypass import BypassInjectionManager
from torch import Tensor, nn

from ...adastate_core.errors import ConfigError
from ...adastate_core.training.memory import LinearShape
from ..devices import private_rng

_BLOCKS = (nn.ModuleList, nn.ModuleDict)
_UP, _DOWN, _ALPHA = "lora_up.weight", "lora_down.weight", "alpha"


def blocks_of(dit: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the blocks of a DiT with their names in it."""
    return [
        (f"{name}.{number}", block)
        for name, child in dit.named_children()
        if isinstance(child, _BLOCKS)
        for number, block in child.named_children()
    ]


def linear_layers(block: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Return the linear layers of a block with their names in it."""
    return [(name, part) for name, part in block.named_modules() if isinstance(part, nn.Linear)]


def linear_shapes(dit: nn.Module) -> list[list[LinearShape]]:
    """Return how much the linear layers of every block read and write."""
    return [
        [LinearShape(*reversed(part.weight.shape)) for _, part in linear_layers(block)]
        for _, block in blocks_of(dit)
    ]


class StateAdapter:
    """A LoRA on the linear layers of all blocks, added to what they compute.

    The weights of the model are neither read nor changed, in whatever form they are kept.

    Args:
        model: The copy of the MODEL.
        rank: Its rank.
        seed: Seed of its random half; the other half begins at zero.
        begin: A LoRA to begin with, or None.

    Raises:
        ConfigError: If that is of another model or another rank.
    """

    def __init__(
        self,
        model: ModelPatcher,
        rank: int,
        seed: int,
        begin: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._model, self._manager = model, BypassInjectionManager()
        dit = model.get_model_object("diffusion_model")
        layers = {
            f"diffusion_model.{block}.{name}": part
            for block, of in blocks_of(dit)
            for name, part in linear_layers(of)
        }
        if begin is not None:
            _require_fits(begin, layers, rank)
        self._adapters: dict[str, Any] = {}
        with private_rng(torch.device("cpu"), seed):
            for name, part in layers.items():
                # The host looks at the size and the device of the weight alone.
                like = torch.empty(()).expand(part.weight.shape)
                made = LoRAAdapter.create_train(like, rank=rank, alpha=1.0)
                made.requires_grad_(True)
                made.alpha.requires_grad_(False)
                self._adapters[name] = made
                self._manager.add_adapter(f"{name}.weight", made)
        if begin is not None:
            self.load(begin)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what learns, by name."""
        return {
            f"{name}.{part}": value
            for name, adapter in self._adapters.items()
            for part, value in adapter.named_parameters()
            if value.requires_grad
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return it as a LoRA, as the host's nodes take and save one: tensors of their own."""
        return {
            f"{name}.{part}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, adapter in self._adapters.items()
            for part, value in adapter.named_parameters()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the values of a LoRA of the same layers and rank."""
        with torch.no_grad():
            for name, adapter in self._adapters.items():
                for part, value in adapter.named_parameters():
                    value.copy_(tensors[f"{name}.{part}"])

    def forget(self) -> None:
        """Forget the gradients."""
        for value in self.parameters.values():
            value.grad = None

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Add it to what the layers compute, for as long as this lasts."""
        device = comfy.model_management.get_torch_device()
        for adapter in self._adapters.values():
            adapter.to(device)
        injections = self._manager.create_injections(self._model.model)
        for injection in injections:
            injection.inject(self._model)
        try:
            yield
        finally:
            for injection in injections:
                injection.eject(self._model)


def _require_fits(begin: Mapping[str, Tensor], layers: Mapping[str, nn.Linear], rank: int) -> None:
    missing = [n for n in layers if any(f"{n}.{p}" not in begin for p in (_UP, _DOWN, _ALPHA))]
    if missing:
        raise ConfigError(
            "lora",
            problem=f"this LoRA lacks {len(missing)} of the {len(layers)} layers that are trained",
            seen=f"no {missing[0]}",
            expected="an adapter that Train State Adapter has made for this model",
            remedy="disconnect lora, and load it in front of Apply AdaState to train on top of it",
        )
    ranks = {int(begin[f"{name}.{_DOWN}"].shape[0]) for name in layers}
    if ranks != {rank}:
        raise ConfigError(
            "rank",
            problem=f"the LoRA to begin with has rank {min(ranks)}, and rank is {rank}",
            seen=rank,
            expected=f"{min(ranks)}",
            remedy=f"set rank to {min(ranks)}",
        )
    other = [
        name
        for name, part in layers.items()
        if (begin[f"{name}.{_UP}"].shape[0], begin[f"{name}.{_DOWN}"].shape[1:].numel())
        != tuple(part.weight.shape)
    ]
    if other:
        raise ConfigError(
            "lora",
            problem="this LoRA belongs to a model of another size",
            seen=f"{tuple(begin[f'{other[0]}.{_UP}'].shape)} for {other[0]}",
            expected=f"{tuple(layers[other[0]].weight.shape)}",
            remedy="connect an adapter of this model, or none",
        )
