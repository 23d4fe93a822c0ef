"""Attention that ComfyUI's own nodes put on a MODEL: it computes, and the past is in its calls."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.families import CASES, fresh, step
from tests.support.harness import NodeHarness
from tests.support.sound_streams import (
    empty_minimax,
    has_minimax,
    minimax_model,
    minimax_step,
)
from tests.support.tiny_models import MINIMAX_H3

FAMILIES = [name for name in CASES if name != "mochi"]


class Backend:
    """An attention function as *Model Attention Backend* takes it.

    Later ComfyUI versions hand a backend that can take them containers, which it has to empty.
    """

    def __init__(self) -> None:
        self.calls, self.emptied, self.longer = 0, 0, 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        from comfy.ldm.modules.attention import attention_basic

        self.calls += 1
        self.longer += k.shape[-2] > q.shape[-2]
        out: Tensor = attention_basic(q, k, v, *args, **kwargs)
        return out

    def container_function(self, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Tensor:
        self.emptied += 1
        return self(q.take(), k.take(), v.take(), *args, **kwargs)

    def on(self, model: Any) -> Any:
        """Return the MODEL with this backend on it, as ComfyUI puts it there."""
        model = model.clone()
        if hasattr(model, "set_model_optimized_attention"):
            model.set_model_optimized_attention(self)
        else:

            def override(_: Any, *args: Any, **kwargs: Any) -> Tensor:
                return self(*args, **kwargs)

            options = model.model_options["transformer_options"]
            options["optimized_attention_override"] = override
        return model


def close(a: Any, b: Any, tolerance: float) -> None:
    torch.testing.assert_close(a.content(), b.content(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backend_computes_every_call_of_a_stream(
    node_classes: dict[str, Any], tiny_models: Any, name: str
) -> None:
    case, backend = CASES[name], Backend()
    harness = NodeHarness(node_classes, case.model)
    plain, _ = step(harness, case, fresh(harness, case), 2)
    made, _ = step(harness, case, fresh(harness, case), 2, model=backend.on(harness.model))
    close(made, plain, max(case.tolerance, 1e-4))
    assert backend.calls
    assert backend.longer
    assert not backend.emptied


@pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")
@pytest.mark.parametrize("before", [True, False])
def test_a_backend_that_takes_containers_gets_tensors_and_the_past(
    node_classes: dict[str, Any], tiny_models: Any, before: bool
) -> None:
    """MiniMax H3 hands its calls over in containers, where ComfyUI has them."""
    harness, backend = NodeHarness(node_classes, MINIMAX_H3), Backend()
    (state,) = harness.run("AdaStateNewStream", empty_minimax(), 0)
    plain, _ = minimax_step(harness, minimax_model(harness), state, 2)
    if before:
        harness.bare = backend.on(harness.bare)
        model = minimax_model(harness)
    else:
        model = backend.on(minimax_model(harness))
    made, _ = minimax_step(harness, model, state, 2)
    close(made, plain, 1e-4)
    torch.testing.assert_close(made.sound(), plain.sound(), atol=1e-4, rtol=1e-4)
    assert backend.calls
    assert backend.longer
    assert not backend.emptied
    attention = importlib.import_module("comfy.ldm.modules.attention")
    if hasattr(attention, "AttentionTensorContainer"):  # they are what it is given without us
        kept = attention.AttentionTensorContainer(torch.zeros((1, 2, 3, 4)))
        given = [attention.AttentionTensorContainer(kept.peek().clone()) for _ in range(3)]
        options = model.model_options["transformer_options"]
        attention.optimized_attention(*given, 2, skip_reshape=True, transformer_options=options)
        assert backend.emptied == 1
