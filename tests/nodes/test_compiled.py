"""A MODEL behind ComfyUI's TorchCompileModel: the same stream, in one graph for all chunks."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from safetensors.torch import save_file
from torch import Tensor
from torch._dynamo.utils import counters

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import WAN

# Inductor builds C++ for the CPU; everything before that is the same in the other one.
BACKEND = "inductor" if shutil.which("g++") or shutil.which("clang++") else "aot_eager"


pytestmark = pytest.mark.usefixtures("nothing_compiled")


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


class Fused:
    """A model with the attention of a GPU: on a CPU, ComfyUI's own breaks every graph."""

    def __init__(self, model: Any) -> None:
        self.calls = 0
        self.model = model.clone()
        self.model.model_options["transformer_options"]["optimized_attention_override"] = self

    def __call__(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        from comfy.ldm.modules.attention import attention_pytorch

        self.calls += 1
        return attention_pytorch(*args, **kwargs)


@pytest.fixture
def as_on_a_gpu(harness: NodeHarness) -> Fused:
    return Fused(harness.bare)


def compiled(model: Any, backend: str = "eager", **options: Any) -> Any:
    """Do as the node does; it offers two backends only."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import TorchCompileModel, skip_torch_compile_dict

    if backend == "inductor":
        return TorchCompileModel.execute(model, backend).args[0]
    model = model.clone(disable_dynamic=True)
    guards = {"guard_filter_fn": skip_torch_compile_dict}
    set_torch_compile_wrapper(model=model, backend=backend, options=guards, **options)
    return model


def applied(harness: NodeHarness, model: Any, **options: Any) -> Any:
    return harness.run("AdaStateApply", model, "adaptive", 3, 3, 1, 3, **options)[0]


def streamed(harness: NodeHarness, model: Any, chunks: int = 3, **options: Any) -> Tensor:
    content: Tensor = harness.step(harness.fresh(), chunks, model=model, **options)[0].content()
    return content


def sampled(model: Any) -> Tensor:
    """Sample a block with ComfyUI's own sampling, AdaState or not."""
    import comfy.sample

    latent = torch.zeros((1, 16, 4, 4, 6))
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        result: Tensor = comfy.sample.sample(
            model, noise, 2, 1.0, "euler", "simple", conditioning(0), conditioning(1), latent
        )
    return result


def graphs_and_breaks() -> tuple[int, int]:
    counts = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
    counters.clear()
    return counts


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_same_latents_from_one_graph(harness: NodeHarness, order: str) -> None:
    expected = streamed(harness, harness.model, 4)
    model = applied(harness, harness.bare)
    if order == "before":
        model = applied(harness, compiled(harness.bare, "aot_eager"))
    else:
        model = compiled(model, BACKEND)
    close(streamed(harness, model, 4), expected)
    assert graphs_and_breaks() == (1, 0)


@pytest.mark.newest
def test_the_graph_is_no_more_broken_than_without_a_stream(
    harness: NodeHarness, as_on_a_gpu: Fused
) -> None:
    sampled(compiled(as_on_a_gpu.model))
    assert graphs_and_breaks() == (1, 0)
    expected = streamed(harness, applied(harness, as_on_a_gpu.model), 2)
    before = as_on_a_gpu.calls
    close(streamed(harness, compiled(applied(harness, as_on_a_gpu.model)), 2), expected)
    assert graphs_and_breaks() == (1, 0)
    # The override that was there before still attends: 5 forwards, 2 layers, 2 calls in each.
    assert as_on_a_gpu.calls - before == 20


@pytest.mark.newest
def test_other_samplers_and_streams_do_not_share_a_graph(
    harness: NodeHarness, as_on_a_gpu: Fused
) -> None:
    """ComfyUI drops the guards that would tell them apart."""
    plain = applied(harness, as_on_a_gpu.model)
    alone, expected = sampled(plain), streamed(harness, plain, 2)
    model = compiled(applied(harness, as_on_a_gpu.model))
    for _ in range(2):
        close(sampled(model), alone)
        close(streamed(harness, model, 2), expected)
    assert graphs_and_breaks() == (2, 0)


@pytest.mark.newest
def test_a_graph_that_other_packs_break(harness: NodeHarness) -> None:
    """Then layers share what was traced for one of them."""

    def patch(args: dict[str, Any]) -> Any:
        torch._dynamo.graph_break()
        return args["x"]

    broken = harness.bare.clone()
    broken.set_model_patch(patch, "attn2_patch")
    model = compiled(applied(harness, broken))
    state, _ = harness.step(harness.fresh(), 2, model=model)
    assert graphs_and_breaks()[1] > 0
    after, _ = harness.step(state, model=model)
    close(after.content(), streamed(harness, applied(harness, broken)))
    assert graphs_and_breaks() == (0, 0)


def test_blocks_that_are_compiled_one_by_one(harness: NodeHarness, as_on_a_gpu: Fused) -> None:
    keys = [f"diffusion_model.blocks.{i}" for i in range(2)]
    plain = applied(harness, as_on_a_gpu.model)
    model = compiled(applied(harness, as_on_a_gpu.model), keys=keys)
    close(sampled(model), sampled(plain))
    bare = graphs_and_breaks()
    close(streamed(harness, model), streamed(harness, plain))
    assert graphs_and_breaks() == bare


@pytest.mark.newest
def test_guidance_and_counted_positions(harness: NodeHarness) -> None:
    """No chunk is traced again, though each stands elsewhere in time."""
    plain = applied(harness, harness.bare, preset="self_forcing")
    assert plain.get_attachment("adastate").config.positions == "absolute"
    model = compiled(applied(harness, harness.bare, preset="self_forcing"))
    expected = streamed(harness, plain, 4, negative=3, cfg=3.0)
    close(streamed(harness, model, 4, negative=3, cfg=3.0), expected)
    # One for both conditionings in one batch, and one for a commit of each.
    assert graphs_and_breaks() == (2, 0)


@pytest.mark.newest
def test_a_stream_goes_on_with_a_compiled_model_and_a_lora(
    harness: NodeHarness, tiny_models: Path
) -> None:
    import nodes

    weights = {}
    for part, shape in (("lora_A", (4, 128)), ("lora_B", (128, 4))):
        value = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.3
        weights[f"diffusion_model.blocks.0.self_attn.k.{part}.weight"] = value
    (tiny_models / "loras").mkdir(exist_ok=True)
    save_file(weights, tiny_models / "loras" / "tiny_compiled.safetensors")
    load = nodes.LoraLoaderModelOnly().load_lora_model_only
    lora = load(harness.bare, "tiny_compiled.safetensors", 1.0)[0]
    (plain,) = harness.run("AdaStateApply", lora, "adaptive", 3, 3, 1, 3)
    start, _ = harness.step(harness.fresh(), 2, model=plain)
    expected, _ = harness.step(start, 2, model=plain)
    after, _ = harness.step(start, 2, model=compiled(applied(harness, lora)))
    close(after.content(), expected.content())
    assert after.fingerprint == expected.fingerprint
    assert not any(chunk.approximate for chunk in after.chunks)
    # What was traced with the LoRA holds for the weights without it.
    close(streamed(harness, compiled(harness.model)), streamed(harness, harness.model))


def test_the_layout_is_checked(harness: NodeHarness) -> None:
    model = compiled(applied(harness, harness.bare))
    binding = model.get_attachment("adastate")
    rotation = dataclasses.replace(binding.traits.rope, pairing="half")
    traits = dataclasses.replace(binding.traits, rope=rotation)
    model.set_attachments("adastate", dataclasses.replace(binding, traits=traits))
    with pytest.raises(
        ValueError, match=r"built otherwise than AdaState knows it: frames placed in time"
    ):
        harness.step(harness.fresh(), model=model)


@pytest.mark.newest
def test_other_attention_calls_than_in_the_first_forward_are_an_error(harness: NodeHarness) -> None:
    model = compiled(applied(harness, harness.bare))
    state, _ = harness.step(harness.fresh(), model=model)
    calls = model.get_attachment("adastate").calls
    removed = calls.pop()
    with pytest.raises(ValueError, match=r"4 attention calls, not 3"):
        harness.step(state, model=model)
    calls += [removed, removed]
    with pytest.raises(ValueError, match=r"4 attention calls, not 5"):
        harness.step(state, model=model)
    calls.pop()
    after, _ = harness.step(state, model=model)
    close(after.content(), streamed(harness, harness.model, 2))
