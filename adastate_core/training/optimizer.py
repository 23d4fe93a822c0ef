"""The optimiser of an adapter, whose state can be kept as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError, StateFileError
from .plan import TrainingOptions

_MAX_NORM = 1.0
_PARTS = ("exp_avg", "exp_avg_sq", "step")


class AdapterOptimizer:
    """AdamW over the parameters of an adapter, with clipped gradients.

    Args:
        parameters: The parameters by name.
        options: The options of the run.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], options: TrainingOptions) -> None:
        self._parameters, self._options = dict(parameters), options
        self._adam = torch.optim.AdamW(
            list(self._parameters.values()),
            lr=options.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=0.01,
        )

    def step(self, number: int) -> None:
        """Change the parameters by their gradients, and forget these.

        Args:
            number: Number of the step, from 0.

        Raises:
            NonFiniteError: If a gradient is no number; nothing is changed then.
        """
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), _MAX_NORM)
        if not torch.isfinite(norm):
            self.forget()
            raise NonFiniteError(
                f"step {number + 1} of training",
                problem=f"training broke down at step {number + 1}: its gradients are not numbers",
                seen=f"a gradient of norm {float(norm)}",
                expected="finite gradients",
                remedy="lower learning_rate, or set training_dtype to fp32; "
                "the newest checkpoint is as it was",
            )
        for group in self._adam.param_groups:
            group["lr"] = self._options.rate(number)
        self._adam.step()
        self.forget()

    def forget(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name; empty before the first step."""
        return {
            f"{part}/{name}": self._adam.state[parameter][part].detach().cpu()
            for name, parameter in self._parameters.items()
            if parameter in self._adam.state
            for part in _PARTS
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state that `tensors` gave.

        Raises:
            StateFileError: If it belongs to other parameters.
        """
        if not tensors:
            return
        wanted = {f"{part}/{name}": p for name, p in self._parameters.items() for part in _PARTS}
        fits = wanted.keys() == tensors.keys() and all(
            tensors[key].shape == (() if key.startswith("step/") else p.shape)
            for key, p in wanted.items()
        )
        if not fits:
            raise StateFileError(
                "optimiser of the checkpoint",
                problem="the checkpoint holds the optimiser of another adapter",
                seen=f"{len(tensors)} tensors",
                expected=f"{len(wanted)} that fit the adapter",
                remedy="turn resume off, or choose another name",
            )
        for name, parameter in self._parameters.items():
            place = {"exp_avg": parameter.device, "exp_avg_sq": parameter.device}
            self._adam.state[parameter] = {
                part: tensors[f"{part}/{name}"].to(place.get(part, "cpu"), copy=True)
                for part in _PARTS
            }
