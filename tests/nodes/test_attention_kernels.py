"""`attention` on Apply AdaState: ComfyUI's own kernel, or the fastest that is as exact."""

from __future__ import annotations

import importlib
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.families import CASES, fresh, step
from tests.support.harness import NodeHarness, pool_of
from tests.support.kernels import Clock
from tests.support.tiny_models import WAN

Function = Callable[..., Tensor]


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture
def kernels(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.model.attention_kernels")


@pytest.fixture
def clock(pack: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.install(monkeypatch, pack)
    return clock


def applied(harness: NodeHarness, model: Any = None, **options: Any) -> Any:
    model = model or harness.bare
    return harness.run("AdaStateApply", model, "adaptive", 3, 3, 1, 3, **options)[0]


def fastest(harness: NodeHarness, model: Any = None, **options: Any) -> Any:
    return applied(harness, model, attention="fastest", **options)


def streamed(harness: NodeHarness, model: Any, chunks: int = 4, **options: Any) -> Tensor:
    content: Tensor = harness.step(harness.fresh(), chunks, model=model, **options)[0].content()
    return content


def chosen(model: Any) -> list[str]:
    return [choice.name for choice in model.get_attachment("adastate").kernels.choices]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def served_by(monkeypatch: pytest.MonkeyPatch, function: Function) -> None:
    """Let the model call this function, as it calls the one that ComfyUI has chosen."""
    from comfy.ldm.wan import model

    monkeypatch.setattr(model, "optimized_attention", function)


def test_by_default_nothing_is_measured(harness: NodeHarness, clock: Clock) -> None:
    model = applied(harness)
    assert torch.equal(streamed(harness, model), streamed(harness, harness.model))
    assert not clock.readings
    again = applied(harness, fastest(harness))
    assert again.get_attachment("adastate").kernels is None
    assert again.model_options["transformer_options"].keys() == (
        model.model_options["transformer_options"].keys()
    )


def test_the_fastest_is_measured_once_for_a_shape_and_used(
    harness: NodeHarness, clock: Clock, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    attend = kernels._attend_by_torch

    def counted(q: Tensor, k: Tensor, *args: Any) -> Tensor:
        calls.append((q.shape[1], k.shape[1]))
        return attend(q, k, *args)  # type: ignore[no-any-return]

    monkeypatch.setattr(kernels, "_attend_by_torch", counted)
    model = fastest(harness)
    state, _ = harness.step(harness.fresh(), 4, model=model)
    close(state.content(), streamed(harness, applied(harness), 4))
    # The block alone, with anchor and window as they fill up; 6 tokens a frame.
    shapes = sorted(set(calls))
    assert shapes == [(24, 24), (24, 48)]
    assert chosen(model) == ["PyTorch"] * 2
    readings, made = clock.readings, len(calls)
    harness.step(state, 1, model=model)
    assert clock.readings == readings
    # Two steps and a commit in two layers.
    assert len(calls) - made == 6


def test_chained_warm_and_cold_are_the_same_to_the_bit(harness: NodeHarness, clock: Clock) -> None:
    model = fastest(harness)
    start, _ = harness.step(harness.fresh(), 2, model=model)
    chained, _ = harness.step(start, 2, model=model)
    assert torch.equal(chained.content(), streamed(harness, model))
    # Another MODEL chooses anew; here the clock lets it choose alike.
    cold, _ = harness.step(start, 2, model=fastest(harness))
    assert torch.equal(cold.content(), chained.content())


def test_what_is_slower_or_less_exact_or_cannot_is_not_used(
    harness: NodeHarness, clock: Clock, pack: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = streamed(harness, applied(harness))
    clock.share = 2.0
    slow = fastest(harness)
    assert torch.equal(streamed(harness, slow), expected)
    assert set(chosen(slow)) == {""}

    def rounds(q: Tensor, k: Tensor, v: Tensor, *args: Any) -> Tensor:
        out: Tensor = kernels._attend_by_torch(q.half(), k.half(), v.half(), *args)
        return out.to(q.dtype)

    def cannot(*args: Any) -> Tensor:
        raise RuntimeError("no such kernel on this device")

    override = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.attention_override")
    others = {"rounds": rounds, "cannot": cannot}
    monkeypatch.setattr(override, "exact_kernels", lambda q, mask: others)
    clock.share = 0.1
    refused = fastest(harness)
    assert torch.equal(streamed(harness, refused), expected)
    assert set(chosen(refused)) == {""}


def test_another_node_s_override_is_what_the_artist_chose(
    harness: NodeHarness, clock: Clock
) -> None:
    calls: list[str] = []

    def override(func: Function, *args: Any, **kwargs: Any) -> Tensor:
        calls.append("")
        return func(*args, **kwargs)

    plain, before = applied(harness), harness.bare.clone()
    after = fastest(harness).clone()
    for model in (before, after):
        model.model_options["transformer_options"]["optimized_attention_override"] = override
    for model in (fastest(harness, before), after):
        calls.clear()
        assert torch.equal(streamed(harness, model), streamed(harness, plain))
        assert calls
        assert not clock.readings


def test_a_function_that_rounds_more_is_left_alone(
    harness: NodeHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SageAttention by a flag of ComfyUI."""
    from comfy.ldm.modules.attention import attention_pytorch, wrap_attn

    @wrap_attn
    def rounding(q: Tensor, k: Tensor, v: Tensor, heads: int, **kwargs: Any) -> Tensor:
        out: Tensor = attention_pytorch(q.half(), k.half(), v.half(), heads, **kwargs)
        return out.to(q.dtype)

    served_by(monkeypatch, rounding)
    assert torch.equal(streamed(harness, fastest(harness)), streamed(harness, applied(harness)))
    assert not clock.readings


@pytest.mark.parametrize("name", ["attention_pytorch", "attention_split", "attention_basic"])
def test_each_exact_function_of_the_host_may_be_replaced(
    harness: NodeHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from comfy.ldm.modules import attention

    served_by(monkeypatch, getattr(attention, name))
    model = fastest(harness)
    close(streamed(harness, model), streamed(harness, applied(harness)))
    assert set(chosen(model)) == {"PyTorch"}


def test_a_weaker_anchor_is_a_mask_that_is_followed(harness: NodeHarness, clock: Clock) -> None:
    model = fastest(harness, anchor_strength=0.5)
    close(streamed(harness, model), streamed(harness, applied(harness, anchor_strength=0.5)))
    assert chosen(model) == ["PyTorch"] * 2  # without and with it
    assert clock.readings


def test_guidance_has_two_conditionings_in_a_batch(harness: NodeHarness, clock: Clock) -> None:
    model, options = fastest(harness), {"negative": 3, "cfg": 3.0}
    close(streamed(harness, model, **options), streamed(harness, applied(harness), **options))
    assert set(chosen(model)) == {"PyTorch"}


def test_the_setting_is_part_of_the_keys_of_the_cache(harness: NodeHarness, clock: Clock) -> None:
    plain, quick = applied(harness), fastest(harness)
    for model in (plain, quick):
        streamed(harness, model)
    mine, theirs = (set(pool_of(model).sets) for model in (plain, quick))
    assert mine
    assert theirs
    assert not mine & theirs


def test_clones_share_what_was_chosen(harness: NodeHarness, clock: Clock) -> None:
    model = fastest(harness)
    streamed(harness, model)
    readings = clock.readings
    streamed(harness, model.clone())
    assert clock.readings == readings


def test_a_step_says_what_was_chosen(
    harness: NodeHarness, clock: Clock, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfy_api.latest import io

    lines: list[str] = []
    progress = importlib.import_module(f"{pack.__name__}.adastate_comfy.progress")
    monkeypatch.setattr(progress, "write_under", lambda node, text: lines.append(text))
    monkeypatch.setattr(harness, "hidden", {io.Hidden.unique_id: "7"})
    words = "; attention: PyTorch, 2.0 times as fast as ComfyUI's own"
    model = fastest(harness)
    harness.step(harness.fresh(), 2, model=model)
    assert not lines[0].endswith(words)  # not known yet
    assert lines[-1].endswith(words)
    lines.clear()
    harness.step(harness.fresh(), 1, model=model, seed=5)
    assert all(line.endswith(words) for line in lines[1:])


@pytest.mark.parametrize("family", ["wan 2.1 i2v", "cosmos predict2", "hunyuan video", "ltxv"])
def test_every_form_of_a_call(
    node_classes: dict[str, Any], tiny_models: Any, clock: Clock, family: str
) -> None:
    """Models hand over queries by heads or not, and text with a mask."""
    case = CASES[family]
    assert isinstance(case.model, str)
    own = NodeHarness(node_classes, case.model)
    models = [make(own, anchor_strength=0.5) for make in (applied, fastest)]
    states = [step(own, case, fresh(own, case), 2, model=model)[0] for model in models]
    plain, quick = (state.content() for state in states)
    torch.testing.assert_close(quick, plain, atol=max(case.tolerance * 10, 1e-4), rtol=0)
    assert set(chosen(models[1])) == {"PyTorch"}
    choices = models[1].get_attachment("adastate").kernels.choices
    assert all(choice.host_error < 1e-5 for choice in choices)


class OnACard:
    """Queries as on a card, for what asks only where and of which type they are."""

    device = types.SimpleNamespace(type="cuda")

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def test_kernels_of_a_card(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ones are tried; whether they can take a call is found out by calling them."""
    torch_own = ["cuDNN", "PyTorch's FlashAttention", "PyTorch's memory-efficient attention"]
    asked: list[tuple[Any, ...]] = []

    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        asked.append((q.shape, k.shape, options))
        return q, k

    module = types.ModuleType("flash_attn_interface")
    module.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)
    kernels._function_of.cache_clear()
    half = OnACard(torch.bfloat16)
    try:
        found = kernels.exact_kernels(half, None)
        assert list(found) == [*torch_own, "FlashAttention 3"]
        assert list(kernels.exact_kernels(half, torch.zeros(1))) == torch_own
        assert list(kernels.exact_kernels(OnACard(torch.float32), None)) == torch_own
    finally:
        kernels._function_of.cache_clear()
    q, k = torch.zeros((1, 3, 2, 8)), torch.zeros((1, 5, 2, 8))
    assert found["FlashAttention 3"](q, k, k, None, 0.5) is q
    assert asked == [(q.shape, k.shape, {"softmax_scale": 0.5, "causal": False})]
    assert kernels.exact_kernels(torch.zeros(1, device="meta"), None) == {}


def test_a_kernel_of_pytorch_is_the_one_that_is_named(kernels: Any) -> None:
    """This one exists on a CPU too, and refuses what it cannot do in place of another."""
    from torch.nn.attention import SDPBackend

    source = torch.Generator().manual_seed(0)
    shape = itertools.repeat((1, 16, 2, 8), 3)
    q, k, v = (torch.randn(each, generator=source) for each in shape)
    flash = SDPBackend.FLASH_ATTENTION
    expected = kernels._attend_by_torch(q, k, v, None, 0.3)
    close(kernels._attend_restricted(flash, q, k, v, None, 0.3), expected)
    with pytest.raises(RuntimeError):
        kernels._attend_restricted(SDPBackend.CUDNN_ATTENTION, q, k, v, None, 0.3)
    mask = torch.randn((1, 16, 16), generator=source)
    four = kernels._attend_by_torch(q, k, v, mask[:, None], 0.3)
    assert torch.equal(kernels._attend_by_torch(q, k, v, mask, 0.3), four)
