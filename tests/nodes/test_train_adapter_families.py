"""Train State Adapter on a tiny model of every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.families import CASES, HEIGHT, WIDTH, Case
from tests.support.harness import NodeHarness
from tests.support.training import Bench

FUSED = "cosmos predict2"
"""The case that ComfyUI computes by an operation without gradients."""


def loaded(node_classes: dict[str, Any], case: Case) -> NodeHarness:
    model = case.model
    if not isinstance(model, str):
        make, model = model, model()
        model.cached_patcher_init = (lambda disable_dynamic=False: make(), ())
    return NodeHarness(node_classes, model)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {FUSED}))
def test_gradients_with_checkpointing_equal_those_without(
    node_classes: dict[str, Any], tiny_models: Any, pack: Any, name: str
) -> None:
    case = CASES[name]
    harness, found = loaded(node_classes, case), []
    for checkpointing in (False, True):
        bench = Bench(pack, harness.model, case.conditioning(0), checkpointing=checkpointing)
        clip = bench.clip(3, (HEIGHT, WIDTH))
        found.append(bench.gradients(clip, bench.plan(3, own_past=1.0)))
    plain, saving = found
    missing = [name for name, value in plain.items() if value is None]
    assert plain
    assert not missing, f"these layers learn nothing: {missing}"
    largest = max(float(value.abs().max()) for value in plain.values())
    assert largest > 1e-6
    for name, value in plain.items():
        torch.testing.assert_close(saving[name], value, atol=1e-5 * largest, rtol=1e-4, msg=name)


def test_a_family_without_gradients_is_refused_before_the_first_step(
    node_classes: dict[str, Any], tiny_models: Any, pack: Any, core: Any
) -> None:
    case = CASES[FUSED]
    harness = loaded(node_classes, case)
    bench = Bench(pack, harness.model, case.conditioning(0))
    words = "Cosmos-predict2 cannot be trained in this ComfyUI, which computes a part of it"
    with pytest.raises(core.errors.UnsupportedFamilyError, match=words):
        bench.gradients(bench.clip(2, (HEIGHT, WIDTH)), bench.plan(2))
