"""Text that sees text alone, on ComfyUI's real classes with joint attention.

Then a stream is what one block-causal forward over all frames is, in every chunk: the text of an
early frame has seen no later one there either.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.nodes.test_families import Direct
from tests.support.families import CASES, HEIGHT, VIDEO, WIDTH, Case
from tests.support.harness import NodeHarness


class Padded(Case):
    """A case whose prompt has tokens that are none, which a mask hides."""

    def conditioning(self, seed: int) -> list[Any]:
        ((text, extras),) = super().conditioning(seed)
        extras["attention_mask"] = torch.ones((1, 8), dtype=torch.long)
        extras["attention_mask"][:, 5:] = 0
        return [[text, extras]]


def padded(case: Case) -> Case:
    return Padded(case.model, case.channels, case.text_width, case.extras)


JOINT = {
    "hunyuan video": CASES["hunyuan video"],
    "hunyuan video, padded": padded(CASES["hunyuan video"]),
    "hunyuan video 1.5, padded": padded(CASES["hunyuan video 1.5"]),
    "mochi": CASES["mochi"],
}


@pytest.fixture(scope="module", params=JOINT)
def case(request: pytest.FixtureRequest) -> Case:
    return JOINT[request.param]


@pytest.fixture(scope="module")
def harness(case: Case, node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, case.model if isinstance(case.model, str) else case.model())


def test_every_chunk_equals_one_block_causal_forward(
    harness: NodeHarness, case: Case, core: Any, pack: Any
) -> None:
    anchors, attention, cache = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in ("anchors", "attention.commit_attention", "attention.kv_cache")
    )
    direct = Direct(harness, case, pack)
    shape = direct.binding.bound_model(harness.model).traits.geometry(HEIGHT, WIDTH)
    tokens, first = VIDEO * shape.tokens_per_frame, shape.calls.tracked[0].keys[0] == "text"
    source = torch.Generator().manual_seed(3)
    x = torch.randn((1, case.channels, VIDEO, HEIGHT, WIDTH), generator=source)

    def causal(text_sees_all: bool) -> Any:
        def override(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
            axis = 2 if kwargs.get("skip_reshape") else 1
            if q.shape[axis] == k.shape[axis] >= tokens:
                owner = torch.arange(VIDEO).repeat_interleave(shape.tokens_per_frame) // 2
                text = torch.full((k.shape[axis] - tokens,), -1)
                owner = torch.cat((text, owner) if first else (owner, text))
                sees = owner[:, None] >= owner[None]
                sees |= text_sees_all & (owner[:, None] < 0)
                own = kwargs.get("mask")
                kwargs["mask"] = sees.float().log() + (0.0 if own is None else own)
            return func(q, k, v, *args, **kwargs)

        return override

    with torch.inference_mode():
        expected = direct(x, optimized_attention_override=causal(False))
        other = direct(x, optimized_attention_override=causal(True))
        assert (other - expected).abs().max() > 1e-4  # what text sees matters
        config = core.StreamConfig(
            anchor="none", chunk_frames=2, window_frames=4, warmup_positions="grow"
        )
        config = replace(config, text_sees="text")
        past = {0: cache.KVCache.empty()}
        for start in range(0, VIDEO, 2):
            view = attention.CommitAttention(
                config, anchors.policy_for(config), past, shape, first_frame=start
            )
            out = direct.chunk(x[:, :, start : start + 2], view)
            past = view.committed()
            wanted = expected[:, :, start : start + 2]
            torch.testing.assert_close(out, wanted, atol=case.tolerance, rtol=case.tolerance)
