"""The estimate of memory, beside what a block of real layers keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from adastate_core.training.memory import (
    LinearShape,
    TrainingMemory,
    adapter_parameters,
    plan_training,
)

WIDTH, HIDDEN, TOKENS, RANK = 64, 256, 96, 4
BLOCK = [LinearShape(WIDTH, WIDTH)] * 4 + [LinearShape(WIDTH, HIDDEN), LinearShape(HIDDEN, WIDTH)]


def plan(**changes: int) -> TrainingMemory:
    given = {
        "rank": RANK,
        "tokens": TOKENS,
        "context": 0,
        "width": WIDTH,
        "itemsize": 4,
        "weights": 1000,
        "caches": 10,
    }
    return plan_training([BLOCK, BLOCK, BLOCK], **{**given, **changes})


class Block(nn.Module):
    """A plain transformer block with a LoRA on every linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*shape).requires_grad_(False) for shape in BLOCK)
        self.down = nn.ModuleList(nn.Linear(shape.reads, RANK, bias=False) for shape in BLOCK)
        self.up = nn.ModuleList(nn.Linear(RANK, shape.writes, bias=False) for shape in BLOCK)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2)).requires_grad_(False)

    def linear(self, number: int, x: Tensor) -> Tensor:
        out: Tensor = self.layers[number](x) + self.up[number](self.down[number](x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](x)
        q, k, v = (self.linear(n, y).unflatten(-1, (2, -1)).transpose(1, 2) for n in range(3))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.linear(3, attended.transpose(1, 2).flatten(2))
        y = nn.functional.gelu(self.linear(4, self.norms[1](x)))
        return x + self.linear(5, y)


def test_it_is_near_what_a_block_keeps() -> None:
    block, kept = Block(), {}
    weights = {p.data_ptr() for p in block.parameters()}

    def keep(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        out = block(torch.randn(1, TOKENS, WIDTH, requires_grad=True))
    assert out.requires_grad
    seen = sum(kept.values())
    expected = plan().activations / 3
    assert 0.6 * expected < seen < 1.4 * expected


def test_checkpoints_keep_the_inputs_and_one_block() -> None:
    both = plan()
    of_block = both.activations // 3
    inputs = 3 * TOKENS * WIDTH * 4
    assert both.with_checkpoints == inputs + of_block
    less = both.total(checkpointing=False) - both.total(checkpointing=True)
    assert less == both.activations - both.with_checkpoints


def test_an_adapter_takes_four_numbers_a_parameter() -> None:
    parameters = adapter_parameters(BLOCK * 3, RANK)
    assert parameters == 3 * RANK * sum(a + b for a, b in BLOCK)
    assert plan().adapter == 16 * parameters


@pytest.mark.parametrize("name", ["rank", "tokens", "context", "itemsize", "weights", "caches"])
def test_more_of_anything_takes_more(name: str) -> None:
    more = plan(**{name: 5000})
    for checkpointing in (False, True):
        assert more.total(checkpointing=checkpointing) > plan().total(checkpointing=checkpointing)
