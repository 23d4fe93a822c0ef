"""Train State Adapter: what it learns, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN_LARGER
from tests.support.training import train


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


def test_loss_falls_on_one_clip(harness: NodeHarness, vae: Any) -> None:
    lora, losses, steps = train(harness, vae, 60, name="one clip")
    assert steps == len(losses) == 60
    first, last = (sum(part) / 15 for part in (losses[:15], losses[-15:]))
    print(first, last)
    assert last < 0.9 * first
    assert all(torch.isfinite(value).all() for value in lora.values())
