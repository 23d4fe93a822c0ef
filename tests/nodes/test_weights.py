"""What ComfyUI runs can be streamed and is recognised again, in whatever form its weights are."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.harness import NodeHarness, conditioning
from tests.support.quantised import FORMS, PACKS, quantise, stock, with_lora
from tests.support.tiny_models import WAN, WAN_LOW

Load = Callable[[], Any]


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(scope="module")
def weights(tiny_models: Path) -> dict[str, torch.Tensor]:
    return load_file(tiny_models / "diffusion_models" / WAN)


def applied(harness: NodeHarness, model: Any) -> Any:
    return harness.run("AdaStateApply", model, "adaptive", 3, 3, 1, 3)[0]


def fingerprint(harness: NodeHarness, model: Any) -> Any:
    """Fingerprint a MODEL as it is now, by a binding of its own."""
    binding, fingerprints = (
        importlib.import_module(f"adastate_pack.adastate_comfy.model.{name}")
        for name in ("binding", "fingerprint")
    )
    return fingerprints.fingerprint_of(binding.bound_model(applied(harness, model)))


def sampled(model: Any) -> torch.Tensor:
    import comfy.sample
    import comfy.samplers

    latent = torch.zeros((1, 16, 3, 4, 6))
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.5, 0.0])
    with torch.inference_mode():
        made: torch.Tensor = comfy.sample.sample_custom(
            model,
            torch.randn(latent.shape),
            1.0,
            sampler,
            sigmas,
            conditioning(0),
            conditioning(0),
            latent,
            disable_pbar=True,
        )
    return made


def streams(harness: NodeHarness, core: ModuleType, folder: Path, load: Load) -> None:
    """Stream a model whole and with a restart in between: bit-equal, one fingerprint."""
    import comfy.model_management

    storage = importlib.import_module(f"{core.__name__}.files.state_file")
    assert torch.isfinite(sampled(load())).all()  # the host runs it
    seen = []
    for patched in (lambda model: model, with_lora):
        bare = load()
        whole, _ = harness.step(harness.fresh(), 3, model=applied(harness, patched(bare)))
        seen += [whole.fingerprint, fingerprint(harness, bare)]  # the LoRA is still in place
        first, _ = harness.step(harness.fresh(), 1, model=applied(harness, patched(load())))
        file = folder / "first.adastate.safetensors"
        storage.save_state(first, file)
        comfy.model_management.unload_all_models()
        seen.append(fingerprint(harness, bare))
        after, _ = harness.step(
            storage.load_state(file), 2, model=applied(harness, patched(load()))
        )
        assert torch.equal(after.content(), whole.content())
        assert not any(chunk.approximate for chunk in after.chunks)
    assert len(set(seen)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_comfyui_quantises_to(
    harness: NodeHarness,
    core: ModuleType,
    tmp_path: Path,
    weights: dict[str, torch.Tensor],
    tiny_models: Path,
    form: str,
) -> None:
    path = tiny_models / "diffusion_models" / f"tiny_wan_{form}.safetensors"
    save_file(quantise(weights, form), path)
    streams(harness, core, tmp_path, lambda: stock(path))
    ours = harness.run("AdaStateLoadModel", path.name, "default", 0.0)[0]
    assert fingerprint(harness, ours) == fingerprint(harness, stock(path))


@pytest.mark.parametrize("loader", PACKS)
def test_layers_of_loader_packs(
    harness: NodeHarness,
    core: ModuleType,
    tmp_path: Path,
    weights: dict[str, torch.Tensor],
    loader: str,
) -> None:
    if loader == "hidden":  # such layers take no LoRA
        streamed, _ = harness.step(
            harness.fresh(), 2, model=applied(harness, PACKS[loader](weights))
        )
        assert streamed.fingerprint == fingerprint(harness, PACKS[loader](weights))
    else:
        streams(harness, core, tmp_path, lambda: PACKS[loader](weights))
    changed = {**weights, "blocks.1.ffn.2.weight": weights["blocks.1.ffn.2.weight"] * 1.5}
    assert not fingerprint(harness, PACKS[loader](changed)).matches(
        fingerprint(harness, PACKS[loader](weights))
    )


@pytest.mark.parametrize("weight_dtype", ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_every_weight_dtype(
    harness: NodeHarness, core: ModuleType, tmp_path: Path, tiny_models: Path, weight_dtype: str
) -> None:
    path = tiny_models / "diffusion_models" / WAN
    streams(harness, core, tmp_path, lambda: stock(path, weight_dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_dtype_that_holds_all_values_is_the_same_model(
    harness: NodeHarness, weights: dict[str, torch.Tensor], tiny_models: Path, dtype: torch.dtype
) -> None:
    path = tiny_models / "diffusion_models" / "tiny_wan_half.safetensors"
    save_file({name: weight.to(dtype) for name, weight in weights.items()}, path)
    import comfy.sd

    one, other = (
        comfy.sd.load_diffusion_model(str(path), {"dtype": each}) for each in (torch.float32, dtype)
    )
    assert fingerprint(harness, one) == fingerprint(harness, other)


PARTS = ("self_attn.q", "self_attn.v", "cross_attn.k", "ffn.0", "ffn.2")


def merged(weights: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """Merge a weak LoRA into one layer."""
    name = f"blocks.1.{part}.weight"
    source = torch.Generator().manual_seed(5)
    up, down = (
        torch.randn(size, generator=source)
        for size in ((weights[name].shape[0], 2), (2, weights[name].shape[1]))
    )
    return {**weights, name: weights[name] + 0.001 * up @ down}


@pytest.mark.parametrize("part", PARTS)
def test_a_merged_lora_makes_another_model(
    harness: NodeHarness, core: ModuleType, weights: dict[str, torch.Tensor], part: str
) -> None:
    import comfy.sd

    other = comfy.sd.load_diffusion_model_state_dict(merged(weights, part))
    state, _ = harness.step(harness.fresh())
    with pytest.raises(ValueError, match=r"^This stream was made with another model"):
        harness.step(state, model=applied(harness, other))


def test_a_pair_that_differs_in_feed_forward_only(
    harness: NodeHarness, weights: dict[str, torch.Tensor]
) -> None:
    import comfy.samplers
    import comfy.sd

    low = applied(harness, comfy.sd.load_diffusion_model_state_dict(merged(weights, "ffn.0")))
    state, _ = harness.run(
        "AdaStateStream",
        harness.model,
        harness.fresh(),
        positive=conditioning(0),
        cfg=1.0,
        sampler=comfy.samplers.sampler_object("lcm"),
        sigmas=torch.tensor([1.0, 0.5, 0.0]),
        seed=0,
        chunks=1,
        model_low_noise=low,
    )
    assert state.chunk_index == 1


def as_of_version_01(state: Any) -> Any:
    """Return a stream as that version would have left it."""
    old = dataclasses.replace(state.fingerprint, digest=state.fingerprint.legacy)
    assert len(old.digest) == 32
    return dataclasses.replace(state, fingerprint=old)


def test_a_stream_of_version_01_goes_on_with_its_model_and_no_other(
    harness: NodeHarness, tiny_models: Path
) -> None:
    one, _ = harness.step(harness.fresh())
    old = as_of_version_01(one)
    two, _ = harness.step(old)
    whole, _ = harness.step(harness.fresh(), 2)
    assert torch.equal(two.content(), whole.content())
    assert two.fingerprint == whole.fingerprint  # which the next chunk records
    low = stock(tiny_models / "diffusion_models" / WAN_LOW)
    with pytest.raises(ValueError, match=r"^This stream was made with another model"):
        harness.step(old, model=applied(harness, low))


def test_streams_of_both_versions_can_be_blended(harness: NodeHarness, tiny_models: Path) -> None:
    new, _ = harness.step(harness.fresh())
    old = as_of_version_01(harness.step(harness.fresh(), seed=1)[0])
    low = stock(tiny_models / "diffusion_models" / WAN_LOW)
    other, _ = harness.step(harness.fresh(), model=applied(harness, low))
    for a, b in ((new, old), (old, new)):
        mixed = harness.run("AdaStateBlend", a, b, 0.5)[0]
        assert harness.step(mixed)[0].fingerprint == new.fingerprint
    for a, b in ((old, other), (other, as_of_version_01(new))):
        with pytest.raises(ValueError, match=r"^These two streams cannot be blended"):
            harness.run("AdaStateBlend", a, b, 0.5)
