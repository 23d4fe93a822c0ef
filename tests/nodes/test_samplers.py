"""Every sampler: chunk by chunk as in one go, and nothing on a socket is written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness, conditioning
from tests.support.tiny_models import WAN

SIGMAS = (1.0, 0.8, 0.5, 0.25, 0.0)


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


def step(
    harness: NodeHarness,
    state: Any,
    chunks: int,
    sampler: Any,
    sigmas: Tensor,
    model: Any,
    cfg: float = 2.0,
) -> Any:
    return harness.run(
        "AdaStateStream",
        model,
        state,
        positive=conditioning(0),
        negative=conditioning(1),
        cfg=cfg,
        sampler=sampler,
        sigmas=sigmas,
        seed=5,
        chunks=chunks,
    )[0]


def same_in_steps(harness: NodeHarness, sampler: Any, cfg: float = 2.0) -> None:
    """Make two chunks in one go and in two, the second with nothing cached."""

    def applied() -> Any:
        return harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)[0]

    sigmas = torch.tensor(SIGMAS)
    whole = step(harness, harness.fresh(), 2, sampler, sigmas, applied(), cfg)
    first = step(harness, harness.fresh(), 1, sampler, sigmas, applied(), cfg)
    after = step(harness, first, 1, sampler, sigmas, applied(), cfg)
    assert torch.equal(after.content(), whole.content())
    assert torch.equal(sigmas, torch.tensor(SIGMAS))


def test_all_samplers(harness: NodeHarness) -> None:
    import comfy.samplers

    names = [name for name in comfy.samplers.KSampler.SAMPLERS if name != "ar_video"]
    assert len(names) >= 44
    for name in names:
        same_in_steps(harness, comfy.samplers.sampler_object(name))


CUSTOM: dict[str, tuple[Any, ...]] = {
    "SamplerDPMPP_3M_SDE": (1.0, 1.0, "cpu"),
    "SamplerDPMPP_2M_SDE": ("heun", 1.0, 1.0, "gpu"),
    "SamplerDPMPP_SDE": (1.0, 1.0, 0.5, "gpu"),
    "SamplerDPMPP_2S_Ancestral": (1.0, 1.0),
    "SamplerEulerAncestral": (1.0, 1.0),
    "SamplerEulerAncestralCFGPP": (1.0, 1.0),
    "SamplerLMS": (4,),
    "SamplerDPMAdaptative": (3, 0.05, 0.0078, 0.05, 0.0, 1.0, 0.0, 0.81, 0.0, 1.0),
    "SamplerER_SDE": ("ER-SDE", 3, 1.0, 1.0),
    "SamplerSASolver": (0.5, 0.2, 0.8, 1.0, 3, 4, True, False),
    "SamplerSEEDS2": ("phi_1", 1.0, 1.0, 0.5),
    "SamplerLCMUpscale": (1.0, -1, "bislerp"),
    "SamplerEulerCFGpp": ("alternative",),
}


@pytest.mark.parametrize("name", CUSTOM)
@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_samplers_of_their_own_nodes(harness: NodeHarness, name: str, cfg: float) -> None:
    from comfy_extras import nodes_advanced_samplers, nodes_custom_sampler

    node = getattr(nodes_custom_sampler, name, None) or getattr(nodes_advanced_samplers, name)
    given = (harness.bare, *CUSTOM[name]) if name == "SamplerSASolver" else CUSTOM[name]
    same_in_steps(harness, node.execute(*given).args[0], cfg)


def test_a_sampler_that_changes_the_size_is_refused_before_it_runs(harness: NodeHarness) -> None:
    from comfy_extras.nodes_advanced_samplers import SamplerLCMUpscale

    sampler = SamplerLCMUpscale.execute(2.0, 2, "bislerp").args[0]
    with pytest.raises(ValueError, match="SamplerLCMUpscale"):
        step(harness, harness.fresh(), 1, sampler, torch.tensor(SIGMAS), harness.model)


def euler(model: Any, x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
    from comfy.k_diffusion.sampling import sample_euler

    made: Tensor = sample_euler(model, x, sigmas, **given)
    return made


def counting(model: Any, x: Tensor, sigmas: Tensor, count: list[int], **given: Any) -> Tensor:
    count[0] += 1
    return euler(model, x, sigmas, **given) * (1 + 0.1 * count[0])


def drawing(model: Any, x: Tensor, sigmas: Tensor, source: Any, **given: Any) -> Tensor:
    return euler(model, x, sigmas, **given) + 0.1 * torch.randn(x.shape, generator=source)


def scribbling(model: Any, x: Tensor, sigmas: Tensor, scale: Tensor, **given: Any) -> Tensor:
    made = euler(model, x.clone(), sigmas, **given) * scale
    for tensor in (x, sigmas, scale):
        tensor.fill_(7.0)
    return made


OPTIONS: dict[Callable[..., Tensor], Callable[[], dict[str, Any]]] = {
    counting: lambda: {"count": [0]},
    drawing: lambda: {"source": torch.Generator().manual_seed(3)},
    scribbling: lambda: {"scale": torch.tensor(1.1)},
}


@pytest.mark.parametrize("function", OPTIONS)
def test_samplers_that_keep_or_spoil_what_they_are_given(
    harness: NodeHarness, function: Callable[..., Tensor]
) -> None:
    import comfy.samplers

    same_in_steps(harness, comfy.samplers.KSAMPLER(function, extra_options=OPTIONS[function]()))


def test_a_sampler_object_that_counts_its_runs(harness: NodeHarness) -> None:
    import comfy.samplers

    class Counting(comfy.samplers.KSAMPLER):  # type: ignore[misc]
        runs = 0

        def sample(self, *args: Any, **kwargs: Any) -> Any:
            self.runs += 1
            return super().sample(*args, **kwargs) * self.runs

    sampler = Counting(euler)
    same_in_steps(harness, sampler)
    assert sampler.runs == 0


def test_latents_on_sockets_and_in_the_record_are_apart(harness: NodeHarness) -> None:
    given = torch.randn((1, 16, 3, 4, 6), generator=torch.Generator().manual_seed(1))
    latent = {"samples": given.clone()}
    state = harness.run("AdaStateNewStream", latent, 0, start_latent=latent)[0]
    latent["samples"].zero_()
    assert torch.equal(state.events[0].content, given)
