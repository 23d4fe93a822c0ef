"""What other nodes hang on a MODEL: served as a stock sampler does, or refused before it begins."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, conditioning, pool_of
from tests.support.tiny_models import WAN, WAN_LARGER, WAN_LOW

SIGMAS = (1.0, 0.9, 0.7, 0.4, 0.0)


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


def applied(harness: NodeHarness) -> Any:
    return harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)[0]


def streamed(harness: NodeHarness, model: Any, chunks: int = 3, **options: Any) -> Tensor:
    options = {"cfg": 3.0, "negative": 9, "sigmas": SIGMAS, **options}
    state, _ = harness.step(harness.fresh(), chunks, model=model, **options)
    content: Tensor = state.content()
    return content


def skipping(model: Any, scale: float, end: float = 1.0, layers: str = "0") -> Any:
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    execute = SkipLayerGuidanceDiT.execute
    return execute(model, scale, 0.0, end, double_layers=layers, single_layers=layers).args[0]


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return bool((a - b).abs().max() < tolerance)


@pytest.mark.parametrize("end", [0.5, 1.0])
def test_skipped_layers_do_not_change_what_the_others_remember(
    harness: NodeHarness, end: float
) -> None:
    """A scale of next to nothing gives the stream without the node, to next to nothing."""
    plain = streamed(harness, applied(harness))
    assert close(streamed(harness, skipping(applied(harness), 1e-6, end)), plain)
    assert not close(streamed(harness, skipping(applied(harness), 3.0, end)), plain)


def test_a_commit_is_free_of_guidance(harness: NodeHarness) -> None:
    start, _ = harness.step(harness.fresh(), 1, model=applied(harness), cfg=3.0, negative=9)

    def distort(args: dict[str, Any]) -> Tensor:
        return args["denoised"] * 0.5

    def distort_both(args: dict[str, Any]) -> list[Tensor]:
        import comfy.samplers

        found = comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"] * 2, args["sigma"], args["model_options"]
        )
        return list(found)

    plain, guided, batched = (applied(harness) for _ in range(3))
    guided.set_model_sampler_post_cfg_function(distort)
    guided.set_model_sampler_cfg_function(lambda args: args["cond"])
    guided.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"][::-1])
    batched.set_model_sampler_calc_cond_batch_function(distort_both)
    sets = []
    for model in (plain, skipping(applied(harness), 3.0), guided, batched):
        harness.step(start, 1, model=model, cfg=3.0, negative=9)
        sets.append(pool_of(model).sets)
    for others in sets[1:]:
        assert len(others) == len(sets[0]) == 2
        for mine, theirs in zip(sets[0].values(), others.values(), strict=True):
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_guidance_that_computes_the_negative_alone(harness: NodeHarness, cfg: float) -> None:
    """What it is given is what the negative's own past gives, at whatever place in the batch."""
    import comfy.samplers

    alone, together = [], []

    def negative_alone(args: dict[str, Any]) -> Tensor:
        (found,) = comfy.samplers.calc_cond_batch(
            args["model"], [args["uncond"]], args["input"], args["sigma"], args["model_options"]
        )
        alone.append(found)
        together.append(args["uncond_denoised"])
        return args["denoised"]

    plain = streamed(harness, applied(harness))
    model = applied(harness)
    model.set_model_sampler_post_cfg_function(negative_alone, disable_cfg1_optimization=cfg == 1.0)
    guided = streamed(harness, model, cfg=cfg)
    assert alone
    for a, b in zip(alone, together, strict=True):
        assert close(a, b, 1e-4) or not a.any()  # zeros come from the rehearsal
    if cfg == 3.0:
        assert close(guided, plain)


def test_guidance_that_draws_leaves_the_global_generator_alone(harness: NodeHarness) -> None:
    model = applied(harness)
    model.set_model_sampler_post_cfg_function(
        lambda args: args["denoised"] + 1e-3 * torch.randn(args["denoised"].shape)
    )
    once = streamed(harness, model)  # `run` fails if the global generator moves
    assert torch.equal(streamed(harness, model), once)


def test_a_conditioning_of_its_own_is_refused_by_name_before_the_first_step(
    harness: NodeHarness,
) -> None:
    import comfy.sampler_helpers
    import comfy.samplers

    class OneMorePrompt:
        def __call__(self, args: dict[str, Any]) -> Tensor:
            own = comfy.sampler_helpers.convert_cond(conditioning(5))
            x, sigma = args["input"], args["sigma"]
            own = comfy.samplers.process_conds(
                args["model"], torch.zeros_like(x), {"positive": own}, x.device
            )["positive"]
            comfy.samplers.calc_cond_batch(args["model"], [own], x, sigma, args["model_options"])
            return args["denoised"]

    model, forwards = counted(applied(harness))
    model.set_model_sampler_post_cfg_function(OneMorePrompt())
    with pytest.raises(
        Exception,
        match=r"^\"OneMorePrompt\" cannot be used in a stream: .*neither positive nor negative",
    ):
        streamed(harness, model)
    assert len(forwards) <= 1  # the comparison of the layout


def counted(model: Any) -> tuple[Any, list[int]]:
    import comfy.patcher_extension

    calls: list[int] = []

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return executor(*args, **kwargs)

    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "count", count)
    return model, calls


def replaced(model: Any, run: Callable[..., Any], block: int = 0) -> Any:
    model.set_model_patch_replace(run, "dit", "double_block", block)
    return model


def test_a_function_in_place_of_a_block_that_runs_it_is_served(harness: NodeHarness) -> None:
    def as_it_is(args: dict[str, Any], extra: dict[str, Any]) -> Any:
        return extra["original_block"](args)

    plain = streamed(harness, applied(harness))
    assert torch.equal(streamed(harness, replaced(applied(harness), as_it_is)), plain)


def twice(args: dict[str, Any], extra: dict[str, Any]) -> Any:
    extra["original_block"](args)
    return extra["original_block"](args)


def skip(args: dict[str, Any], extra: dict[str, Any]) -> Any:
    return {"img": args["img"]}


@pytest.mark.parametrize(
    ("run", "seen"), [(twice, "layer 1 computed twice"), (skip, "layer 1 skipped")]
)
def test_a_block_that_is_not_run_once_is_refused_by_name(
    harness: NodeHarness, run: Callable[..., Any], seen: str
) -> None:
    with pytest.raises(Exception, match=f'^"{run.__name__}" cannot be used in a stream: {seen}'):
        streamed(harness, replaced(applied(harness), run, 1))


def test_guidance_that_runs_a_block_twice_remembers_both_times(harness: NodeHarness) -> None:
    """Its forward is not committed, so it may; both runs have to see the past."""
    import comfy.model_patcher
    import comfy.samplers

    found: dict[str, list[Tensor]] = {"plain": [], "twice": []}

    def compare(args: dict[str, Any]) -> Tensor:
        def last(block_args: dict[str, Any], extra: dict[str, Any]) -> Any:
            # The first run is thrown away: the second one alone makes the result.
            extra["original_block"]({**block_args, "img": block_args["img"].clone()})
            return extra["original_block"](block_args)

        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), last, "dit", "double_block", 0
        )
        for name, given in (("plain", args["model_options"]), ("twice", options)):
            found[name] += comfy.samplers.calc_cond_batch(
                args["model"], [args["cond"]], args["input"], args["sigma"], given
            )
        return args["denoised"]

    model = applied(harness)
    model.set_model_sampler_post_cfg_function(compare)
    streamed(harness, model, 2)
    for a, b in zip(found["plain"], found["twice"], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("change", ["rope", "object", "override", "wrapper"])
def test_keys_hold_what_is_put_on_the_model_after_apply(harness: NodeHarness, change: str) -> None:
    """Warm, with sets that were committed without it, and cold give the same."""
    start, _ = harness.step(harness.fresh(), 1)
    warm_model, cold_model = applied(harness), applied(harness)
    harness.step(start, 1, model=warm_model)
    warm, _ = harness.step(start, 1, model=changed(warm_model, change))
    cold, _ = harness.step(start, 1, model=changed(cold_model, change))
    plain, _ = harness.step(start, 1, model=applied(harness))
    assert torch.equal(warm.newest_content(), cold.newest_content())
    assert not torch.equal(warm.newest_content(), plain.newest_content())
    assert warm.fingerprint == cold.fingerprint == plain.fingerprint


def changed(model: Any, change: str) -> Any:
    import comfy.patcher_extension

    model = model.clone()
    if change == "rope":
        model.set_model_rope_options(4.0, 0.0, 4.0, 0.0, 1.0, 0.0)
    elif change == "object":
        own = model.model.diffusion_model.blocks[0].self_attn.k
        other = torch.nn.Linear(own.in_features, own.out_features)
        source = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for p in other.parameters():
                p.copy_(torch.randn(p.shape, generator=source) * 0.05)
        model.add_object_patch("diffusion_model.blocks.0.self_attn.k", other)
    elif change == "override":
        model.model_options["transformer_options"]["optimized_attention_override"] = halved
    else:
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        model.add_wrapper_with_key(kind, "louder", louder)
    return model


def halved(func: Any, *args: Any, **kwargs: Any) -> Any:
    return func(*args, **kwargs) * 0.5


def louder(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    return executor(x * 1.5, *args, **kwargs)


def test_another_shift_or_guidance_keeps_the_memory(harness: NodeHarness) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    model, forwards = counted(applied(harness))
    state, _ = harness.step(harness.fresh(), 3, model=model, sigmas=(1.0, 0.0))
    harness.step(state, 1, model=model, sigmas=(1.0, 0.0))
    forwards.clear()
    (shifted,) = ModelSamplingSD3().patch(model, 3.0)
    harness.step(state, 1, model=skipping(shifted, 2.0), sigmas=(1.0, 0.0))
    assert len(forwards) <= 3  # one step, guided by a second forward; nothing is committed again


def step_with(harness: NodeHarness, state: Any, **changes: Any) -> Any:
    import comfy.samplers

    inputs = {
        "model": harness.model,
        "positive": conditioning(0),
        "cfg": 1.0,
        "seed": 4,
        "chunks": 1,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor(SIGMAS),
    }
    return harness.run("AdaStateStream", state=state, **{**inputs, **changes})[0]


def test_the_second_model_of_a_pair_is_part_of_the_key(
    node_classes: dict[str, Any], tiny_models: Path
) -> None:
    harness, low = NodeHarness(node_classes, WAN), NodeHarness(node_classes, WAN_LOW)
    clip = torch.randn((1, 16, 3, 4, 6), generator=torch.Generator().manual_seed(3))
    start = harness.fresh(start_latent={"samples": clip})
    alone = step_with(harness, start)
    pair = step_with(harness, start, model_low_noise=low.model)
    again = step_with(harness, start)
    assert torch.equal(alone.newest_content(), again.newest_content())
    assert not torch.equal(alone.newest_content(), pair.newest_content())
    other = NodeHarness(node_classes, WAN_LOW)
    module = other.bare.model.diffusion_model.blocks[0].self_attn.k
    with torch.inference_mode():
        module.weight.mul_(1.5)
        other.bare.model.diffusion_model.blocks[0].modulation.mul_(1.5)
    (other_low,) = other.run("AdaStateApply", other.bare, "adaptive", 3, 3, 1, 3)
    warm = step_with(harness, start, model_low_noise=other_low)
    (fresh,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    cold = step_with(harness, start, model=fresh, model_low_noise=other_low)
    assert torch.equal(warm.newest_content(), cold.newest_content())


def test_several_devices_for_one_model_are_refused(harness: NodeHarness) -> None:
    model = applied(harness)
    model.set_additional_models("multigpu", [harness.bare])
    with pytest.raises(Exception, match=r"several devices.*MultiGPU"):
        harness.step(harness.fresh(), 1, model=model)


def test_an_object_gets_one_number_while_it_lives(pack: Any) -> None:
    numbers = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.option_key"
    ).ObjectNumbers()
    seen = set()
    for _ in range(50):
        seen.add(numbers.number(type("Thing", (), {})()))  # addresses are used again
    assert len(seen) == 50
    assert numbers.number(halved) == numbers.number(halved)
