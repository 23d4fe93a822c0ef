"""LoRAs, precisions, shifts and batches: what artists put between a loader and a stream."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(scope="module")
def lora(tiny_models: Path) -> str:
    source = torch.Generator().manual_seed(1)
    weights = {}
    for name in ("blocks.0.self_attn.k", "blocks.1.ffn.0"):
        rows = 256 if "ffn" in name else 128
        for part, shape in (("lora_A", (4, 128)), ("lora_B", (rows, 4))):
            value = torch.randn(shape, generator=source) * 0.3
            weights[f"diffusion_model.{name}.{part}.weight"] = value
    (tiny_models / "loras").mkdir(exist_ok=True)
    save_file(weights, tiny_models / "loras" / "tiny_lora.safetensors")
    return "tiny_lora.safetensors"


def with_lora(model: Any, name: str, strength: float) -> Any:
    import nodes

    return nodes.LoraLoaderModelOnly().load_lora_model_only(model, name, strength)[0]


def test_a_lora_changes_the_stream_before_and_after_apply(harness: NodeHarness, lora: str) -> None:
    plain, _ = harness.step(harness.fresh(), 3)
    after, _ = harness.step(harness.fresh(), 3, model=with_lora(harness.model, lora, 1.0))
    patched = with_lora(harness.bare, lora, 1.0)
    (bound,) = harness.run("AdaStateApply", patched, "adaptive", 3, 3, 1, 3)
    before, _ = harness.step(harness.fresh(), 3, model=bound)
    assert not torch.equal(plain.content(), after.content())
    assert torch.equal(before.content(), after.content())
    assert not any(chunk.approximate for chunk in after.chunks)


def test_other_strengths_on_two_steps_are_recorded(harness: NodeHarness, lora: str) -> None:
    weak, strong = (with_lora(harness.model, lora, strength) for strength in (0.3, 1.0))
    state, _ = harness.step(harness.fresh(), 2, model=weak)
    state, _ = harness.step(state, 2, model=strong)
    again, _ = harness.step(state, 1, model=with_lora(harness.model, lora, 1.0))
    (cold,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    rebuilt, _ = harness.step(state, 1, model=with_lora(cold, lora, 1.0))
    assert torch.equal(rebuilt.content(), again.content())
    digests = [chunk.weights for chunk in again.chunks]
    assert digests[0] == digests[1] != digests[2] == digests[3] == digests[4] != ""
    # The memory of the first chunks was computed anew with the other strength.
    assert [chunk.approximate for chunk in again.chunks] == [False, False, True, True, True]
    back, _ = harness.step(state, 1)
    assert back.last_chunk.weights == ""


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_fp8_weights_stream(harness: NodeHarness, dtype: str) -> None:
    (model,) = harness.run("AdaStateLoadModel", WAN, dtype, 0.0)
    (model,) = harness.run("AdaStateApply", model, "adaptive", 3, 3, 1, 3)
    assert model.model_dtype() == getattr(torch, f"float8_{dtype[4:]}")
    state, _ = harness.step(harness.fresh(), 3, model=model)
    assert torch.isfinite(state.content()).all()
    plain, _ = harness.step(harness.fresh(), 1)
    with pytest.raises(ValueError, match="Load the model that made it, with its weight"):
        harness.step(plain, 1, model=model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_streams_close_to_full(
    harness: NodeHarness, tiny_models: Path, dtype: torch.dtype
) -> None:
    import comfy.sd

    path = str(tiny_models / "diffusion_models" / WAN)
    half = comfy.sd.load_diffusion_model(path, model_options={"dtype": dtype})
    (half,) = harness.run("AdaStateApply", half, "adaptive", 3, 3, 1, 3)
    a, _ = harness.step(harness.fresh(), 3, model=half)
    b, _ = harness.step(harness.fresh(), 3)
    error = (a.content() - b.content()).abs().mean() / b.content().abs().mean()
    assert error < 0.05


def test_the_stock_shift_node_counts(harness: NodeHarness) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    (shifted,) = ModelSamplingSD3().patch(harness.model, 3.0)
    # The shift turns noise levels into timesteps the same way; sigmas come from outside.
    a, _ = harness.step(harness.fresh(), 2, model=shifted)
    b, _ = harness.step(harness.fresh(), 2)
    torch.testing.assert_close(a.content(), b.content(), atol=1e-5, rtol=0)


def test_every_item_of_a_batch_is_a_stream_of_its_own(harness: NodeHarness) -> None:
    """Run both alone and together, on the same noise."""
    import comfy.samplers

    noise = torch.randn((3, 2, 16, 4, 4, 6), generator=torch.Generator().manual_seed(2))

    def on_noise(items: slice) -> Any:
        chunks = iter(noise)

        def sample(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, **_: Any) -> Any:
            x = next(chunks)[items]
            for sigma, following in pairwise(sigmas):
                clean = model(x, sigma * x.new_ones([x.shape[0]]), **extra_args)
                x = clean + following * (x - clean) / sigma
            return x

        return comfy.samplers.KSAMPLER(sample)

    def stream(items: slice, batch: int) -> Tensor:
        state, _ = harness.run(
            "AdaStateStream",
            harness.model,
            harness.fresh(batch=batch),
            positive=conditioning(0),
            negative=conditioning(1),
            cfg=2.0,
            sampler=on_noise(items),
            sigmas=torch.tensor((1.0, 0.5, 0.0)),
            seed=0,
            chunks=3,
        )
        return state.content()

    together = stream(slice(0, 2), 2)
    for i in (0, 1):
        alone = stream(slice(i, i + 1), 1)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)
