"""What Load Streaming Model and Load Demo Models make of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(scope="module")
def weights(tiny_models: Path) -> dict[str, torch.Tensor]:
    return load_file(tiny_models / "diffusion_models" / WAN)


def prefixed(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in weights.items()}


LAYOUTS = {
    # The published self_forcing_dmd.pt: the host unwraps the only key by itself.
    "one key": lambda w: {"generator_ema": prefixed(w, "model.")},
    "two keys": lambda w: {
        "generator": prefixed({n: torch.zeros_like(v) for n, v in w.items()}, "model."),
        "generator_ema": prefixed(w, "model."),
    },
    "sharded": lambda w: {"generator": prefixed(w, "model._fsdp_wrapped_module.")},
    "compiled": lambda w: {
        "generator": prefixed(w, "model._orig_mod."),
        "critic": {},
        "step": torch.tensor(7),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_checkpoints_are_causal_models_of_shift_five(
    harness: NodeHarness, weights: dict[str, torch.Tensor], tiny_models: Path, layout: str
) -> None:
    name = f"self_forcing_{layout.replace(' ', '_')}.pt"
    torch.save(LAYOUTS[layout](weights), tiny_models / "diffusion_models" / name)
    (model,) = harness.run("AdaStateLoadModel", name, "default", 0.0)
    assert model.get_model_object("model_sampling").shift == 5.0
    loaded = model.get_model_object("diffusion_model").state_dict()
    for key, value in weights.items():
        assert torch.equal(loaded[key].float(), value.float()), key


def test_a_plain_pt_file_keeps_the_models_own_shift(
    harness: NodeHarness, weights: dict[str, torch.Tensor], tiny_models: Path
) -> None:
    torch.save(weights, tiny_models / "diffusion_models" / "plain.pt")
    (model,) = harness.run("AdaStateLoadModel", "plain.pt", "default", 0.0)
    assert model.get_model_object("model_sampling").shift == 8.0
    (shifted,) = harness.run("AdaStateLoadModel", "plain.pt", "default", 3.0)
    assert shifted.get_model_object("model_sampling").shift == 3.0


def test_a_pt_file_of_something_else_is_refused(harness: NodeHarness, tiny_models: Path) -> None:
    foreign = {"generator": {"model.conv.weight": torch.zeros(4)}, "other": {}}
    torch.save(foreign, tiny_models / "diffusion_models" / "foreign.pt")
    with pytest.raises(
        ValueError, match=r"^foreign.pt is no video model that ComfyUI knows.*Load Streaming Model"
    ):
        harness.run("AdaStateLoadModel", "foreign.pt", "default", 0.0)


def test_the_demo_models_stream_and_decode(harness: NodeHarness) -> None:
    import comfy.samplers

    model, clip, vae = harness.run("AdaStateLoadDemo")
    with torch.inference_mode():
        text = "red circle moving left, camera pans right, blue hills"
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    assert positive[0][0].shape[-1] != conditioning(0)[0][0].shape[-1]  # an encoder of its own
    (model,) = harness.run("AdaStateApply", model, "adaptive", 3, 3, 1, 3)
    (state,) = harness.run("AdaStateNewStream", {"samples": torch.zeros((1, 16, 1, 8, 8))}, 0)
    sampling = model.get_model_object("model_sampling")
    _, latent = harness.run(
        "AdaStateStream",
        model=model,
        state=state,
        positive=positive,
        cfg=1.0,
        sampler=comfy.samplers.sampler_object("euler"),
        sigmas=comfy.samplers.calculate_sigmas(sampling, "simple", 2),
        seed=0,
        chunks=2,
    )
    with torch.inference_mode():
        frames = vae.decode(latent["samples"])
    assert frames.shape == (1, 21, 64, 64, 3)
    assert torch.isfinite(frames).all()


def answers_as_dynamic(patcher: Any) -> Any:
    """Make a patcher say what it says under Dynamic VRAM, which no CPU has."""
    patcher.is_dynamic = lambda: True
    return patcher


@pytest.mark.parametrize("name", ["dynamic.pt", "plain_dynamic.pt", WAN])
def test_the_host_loads_a_model_again_for_nodes_that_need_it_whole(
    harness: NodeHarness, weights: dict[str, torch.Tensor], tiny_models: Path, name: str
) -> None:
    folder = tiny_models / "diffusion_models"
    torch.save(LAYOUTS["sharded"](weights), folder / "dynamic.pt")
    torch.save(weights, folder / "plain_dynamic.pt")
    (model,) = harness.run("AdaStateLoadModel", name, "default", 0.0)
    rng = torch.get_rng_state()
    for again in (
        answers_as_dynamic(model.clone()).clone(disable_dynamic=True),
        model.deepclone_multigpu(),
    ):
        assert again.model is not model.model
        one, other = (
            harness.step(
                harness.fresh(), model=harness.run("AdaStateApply", each, "adaptive", 3, 3, 1, 3)[0]
            )[0]
            for each in (model, again)
        )
        assert torch.equal(one.content(), other.content())
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_pt_file_can_be_compiled_under_dynamic_vram(
    harness: NodeHarness, weights: dict[str, torch.Tensor], tiny_models: Path
) -> None:
    from comfy_extras.nodes_torch_compile import TorchCompileModel

    torch.save(LAYOUTS["sharded"](weights), tiny_models / "diffusion_models" / "dynamic.pt")
    (model,) = harness.run("AdaStateLoadModel", "dynamic.pt", "default", 0.0)
    (bound,) = harness.run("AdaStateApply", model, "adaptive", 3, 3, 1, 3)
    for each in (model, bound):
        compiled = TorchCompileModel.execute(answers_as_dynamic(each.clone()), "inductor").args[0]
        assert compiled.get_model_object("model_sampling").shift == 5.0


def test_the_host_loads_parts_of_the_demo_again(harness: NodeHarness) -> None:
    model, clip, vae = harness.run("AdaStateLoadDemo")
    for patcher in (model, clip.patcher, vae.patcher):
        again = answers_as_dynamic(patcher.clone()).clone(disable_dynamic=True)
        assert again.model is not patcher.model
        for one, other in zip(again.model.parameters(), patcher.model.parameters(), strict=True):
            assert torch.equal(one, other)
