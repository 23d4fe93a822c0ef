"""Optimisers shared by the stages: Muon for hidden matrices, AdamW for the rest, EMA, schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

Named = Iterable[tuple[str, Tensor]]


class SingleMuon(torch.optim.Muon):
    """Muon that orthogonalises in single precision, for processors.

    The stock one multiplies in bfloat16, which a processor without such units only emulates. State
    and options are those of the stock one.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(param.grad)
                momentum = state["momentum_buffer"].lerp_(param.grad, 1.0 - group["momentum"])
                update = param.grad.lerp(momentum, group["momentum"])
                update = orthogonal(update, group["ns_coefficients"], group["ns_steps"])
                param.mul_(1.0 - group["lr"] * group["weight_decay"])
                # As large as an update of AdamW (Liu et al. 2025, arXiv 2502.16982).
                rate = 0.2 * group["lr"] * max(param.shape) ** 0.5
                param.add_(update, alpha=-rate)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Newton-Schulz iterations towards the nearest orthogonal matrix, as the stock Muon does."""
    a, b, c = coefficients
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class TwoOptimizers:
    """Step Muon and AdamW together, with one learning-rate factor for both."""

    def __init__(
        self, named: Named, is_hidden: Callable[[str, Tensor], bool], muon_lr: float, adam_lr: float
    ) -> None:
        named = list(named)
        hidden = [p for name, p in named if is_hidden(name, p)]
        rest = [p for name, p in named if not is_hidden(name, p)]
        self.rates = (muon_lr, adam_lr)
        # Matching AdamW's update size lets both rates live on one familiar scale.
        kind = SingleMuon if hidden[0].device.type == "cpu" else torch.optim.Muon
        self.muon = kind(
            hidden, lr=muon_lr, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self.adam = torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
        self.parameters = hidden + rest

    def step(self, factor: float, clip: float = 1.0) -> float:
        """Apply one update scaled by ``factor``; returns the gradient norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, clip)
        for optimizer, rate in zip((self.muon, self.adam), self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
        self.zero_grad()
        return float(norm)

    def zero_grad(self) -> None:
        for optimizer in (self.muon, self.adam):
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, object]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


@dataclass(slots=True)
class Average:
    """Exponential moving average of named tensors, faster at the start."""

    decay: float
    values: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0

    def update(self, named: Named) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10.0))
        with torch.no_grad():
            for name, value in named:
                if name not in self.values:
                    self.values[name] = value.detach().clone()
                else:
                    self.values[name].lerp_(value.detach(), 1.0 - decay)


def warmup_stable_decay(progress: float, step: int, warmup: int = 50, decay: float = 0.35) -> float:
    """Rate factor: linear warm-up by steps, flat, then linear to 3 % over the last ``decay``."""
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.03, (1.0 - progress) / decay))
    return rise * fall
