"""The optimiser: its schedule, what it refuses, and a state that is kept as tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adastate_core.errors import NonFiniteError, StateFileError
from adastate_core.training.optimizer import AdapterOptimizer
from adastate_core.training.plan import TrainingOptions

OPTIONS = TrainingOptions(steps=50, learning_rate=0.05)


def parameters() -> dict[str, nn.Parameter]:
    source = torch.Generator().manual_seed(0)
    shapes = {"up": (3, 2), "down": (2, 4)}
    return {n: nn.Parameter(torch.randn(s, generator=source)) for n, s in shapes.items()}


def learn(values: dict[str, nn.Parameter], optimizer: AdapterOptimizer, steps: range) -> None:
    for step in steps:
        loss = sum((value - step).square().sum() for value in values.values())
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step(step)


def test_a_state_goes_on_to_the_last_bit() -> None:
    whole, cut = parameters(), parameters()
    learn(whole, AdapterOptimizer(whole, OPTIONS), range(20))
    first = AdapterOptimizer(cut, OPTIONS)
    learn(cut, first, range(12))
    kept = {name: value.clone() for name, value in first.tensors().items()}
    second = AdapterOptimizer(cut, OPTIONS)
    second.load(kept)
    learn(cut, second, range(12, 20))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_fresh_one_keeps_nothing_and_takes_nothing() -> None:
    optimizer = AdapterOptimizer(parameters(), OPTIONS)
    assert optimizer.tensors() == {}
    optimizer.load({})


def test_a_state_of_another_adapter_is_refused() -> None:
    values = parameters()
    optimizer = AdapterOptimizer(values, OPTIONS)
    learn(values, optimizer, range(1))
    kept = optimizer.tensors()
    for wrong in (
        {name: value for name, value in kept.items() if "up" not in name},
        {**kept, "exp_avg/up": torch.zeros(9, 9)},
    ):
        with pytest.raises(StateFileError, match="the optimiser of another adapter"):
            AdapterOptimizer(parameters(), OPTIONS).load(wrong)


def test_large_gradients_are_clipped_and_broken_ones_refused() -> None:
    values = parameters()
    before = {name: value.detach().clone() for name, value in values.items()}
    optimizer = AdapterOptimizer(values, OPTIONS)
    for value in values.values():
        value.grad = torch.full_like(value, torch.nan)
    with pytest.raises(NonFiniteError, match="Training broke down at step 3: its gradients"):
        optimizer.step(2)
    assert all(torch.equal(before[name], values[name]) for name in values)
    assert all(value.grad is None for value in values.values())
    for value in values.values():
        value.grad = torch.full_like(value, 1e6)
    optimizer.step(10)
    moved = max(float((values[n].detach() - before[n]).abs().max()) for n in values)
    assert moved == pytest.approx(0.05, rel=0.05)  # AdamW moves by the rate at its first step
