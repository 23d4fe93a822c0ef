"""What a chunk of a running stream does that would have a card wait for the processor.

There is no card here, so operations are followed instead: reading a number of a tensor waits for
all that is queued, and a tensor made of Python numbers has to be copied. Who asked for each is seen
on the stack, and what a session does once is taken off by comparing two lengths.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN

WAITING = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "_unique2",
}
FULL = 6
"""Chunks after which every window is full."""
PACK = ("adastate_core", "adastate_comfy", "nodes")
Asked = Counter[tuple[tuple[str, str, str], str]]


class Asking(TorchDispatchMode):
    """The operations that would have a card wait, by the file and function that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Asked = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING:
            frame = sys._getframe(1)
            while frame.f_back is not None and "/torch/" in frame.f_code.co_filename:
                frame = frame.f_back
            path = Path(frame.f_code.co_filename)
            self.asked[(path.parent.parent.name, path.name, frame.f_code.co_name), name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


def asked_in(harness: NodeHarness, state: Any, chunks: int, seed: int, options: Any) -> Asked:
    with Asking() as mode:
        harness.step(state, chunks, seed=seed, **options)
    return mode.asked


@pytest.mark.parametrize(
    "options",
    [{"sampler": "lcm"}, {"sampler": "euler"}, {"cfg": 3.0, "negative": 1}],
    ids=["lcm", "euler", "guided"],
)
def test_a_chunk_asks_a_card_once(harness: NodeHarness, options: dict[str, Any]) -> None:
    """Whether it is finite, of the latents that have come from the card by then."""
    state, _ = harness.step(harness.fresh(), FULL, **options)
    # Other seeds: the pack would know chunks that it has made before.
    less = asked_in(harness, state, 3, 1, options)
    more = asked_in(harness, state, 4, 2, options)
    more.subtract(less)
    ours = {(where, name): n for (where, name), n in more.items() if where[0] in PACK and n}
    once = ("adastate_core", "stream_chunks.py", "_require_finite"), "is_nonzero"
    assert ours == {once: 1}


def test_what_asks_is_seen() -> None:
    with Asking() as mode:
        float(torch.ones(()) + torch.tensor(1.0))
    here = {name for where, name in mode.asked if where[1] == "test_waiting.py"}
    assert here == {"_local_scalar_dense", "lift_fresh"}


def test_a_session_brings_its_conditions_to_the_card(pack: ModuleType) -> None:
    import comfy.conds

    sockets = importlib.import_module(f"{pack.__name__}.adastate_comfy.sockets.conditioning")
    text, count = comfy.conds.CONDCrossAttn(torch.ones(1, 2, 3)), comfy.conds.CONDConstant(3)
    entries = [{"model_conds": {"c_crossattn": text, "num_tokens": count}, "uuid": "kept"}]
    sockets.bring(entries, torch.device("meta"))
    brought = entries[0]["model_conds"]
    assert isinstance(brought["c_crossattn"], comfy.conds.CONDCrossAttn)
    assert brought["c_crossattn"].cond.device.type == "meta"
    assert brought["num_tokens"] is count
    assert entries[0]["uuid"] == "kept"
    assert text.cond.device.type == "cpu", "the host's own object is left as it was"


CARD = torch.device("meta")
SIGMAS = (1.0, 0.8, 0.5, 0.0)


def sampled_on_card(sampler: Any, sigmas: torch.Tensor) -> list[torch.device]:
    """Sample with latents on the stand-in for a card; return where the model got its levels."""
    import comfy.model_sampling

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        """The schedule of Wan."""

    class Model:
        def __init__(self) -> None:
            sampling = Sampling()
            self.asked: list[torch.device] = []
            self.cfg = 1.0
            self.inner_model = SimpleNamespace(model_sampling=sampling)
            self.model_patcher = SimpleNamespace(get_model_object=lambda name: sampling, model=self)

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
            self.asked.append(sigma.device)
            return x * 0.5

    model, latents = Model(), torch.empty((1, 4, 3, 2, 2), device=CARD)
    out = sampler.sample(model, sigmas, {"model_options": {}, "seed": 0}, None, latents, latents)
    assert out.device == CARD
    return model.asked


def test_the_lcm_of_the_host_reads_no_number_of_a_card(pack: ModuleType) -> None:
    import comfy.samplers

    copies = importlib.import_module(f"{pack.__name__}.adastate_comfy.sampling.sampler_copy")
    latents = torch.empty((1, 4, 3, 2, 2), device=CARD)
    sampler = copies.copy_sampler(comfy.samplers.sampler_object("lcm"), lambda *_: latents)
    sigmas = torch.tensor(SIGMAS)
    levels = copies.schedule_for(sampler, sigmas, torch.device("cuda"))
    assert levels is not sigmas  # a sampler may write to it
    assert sampled_on_card(sampler, levels) == [CARD] * 3
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called"):
        sampled_on_card(sampler, sigmas.to(CARD))


@pytest.mark.parametrize("name", ["euler", "res_multistep", "dpmpp_2m"])
def test_other_samplers_have_their_levels_beside_the_latents(pack: ModuleType, name: str) -> None:
    import comfy.samplers

    copies = importlib.import_module(f"{pack.__name__}.adastate_comfy.sampling.sampler_copy")
    sampler, sigmas = comfy.samplers.sampler_object(name), torch.tensor(SIGMAS)
    assert copies.schedule_for(sampler, sigmas, CARD).device == CARD
    own = copies.schedule_for(sampler, sigmas, sigmas.device)
    assert own is not sigmas
    assert torch.equal(own, sigmas)
