"""The memory of past frames: what it takes, where it lies, and what is said about it before."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning, pool_of
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


def applied(harness: NodeHarness, **options: Any) -> Any:
    return harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, **options)[0]


def test_system_memory_gives_the_same_video(harness: NodeHarness) -> None:
    _, expected = harness.step(harness.fresh(), 4, cfg=3.0, negative=1)
    model = applied(harness, cache_place="system memory")
    _, found = harness.step(harness.fresh(), 4, model=model, cfg=3.0, negative=1)
    assert torch.equal(found["samples"], expected["samples"])
    assert pool_of(model).kv_format.device == torch.device("cpu")
    assert pool_of(harness.model).kv_format.device is None


def test_fp8_takes_a_quarter_of_float32_and_stays_near(harness: NodeHarness) -> None:
    _, expected = harness.step(harness.fresh(), 4)
    model = applied(harness, cache_precision="fp8")
    state, found = harness.step(harness.fresh(), 4, model=model)
    difference = (found["samples"] - expected["samples"]).square().mean().sqrt()
    assert 0 < difference < 0.05 * expected["samples"].square().mean().sqrt()
    assert pool_of(model).nbytes < 0.3 * pool_of(harness.model).nbytes
    (report,) = harness.run("AdaStateRead", state)[4:5]
    assert '"cache_precision": "fp8"' in report


@pytest.mark.parametrize("options", [{}, {"cache_precision": "fp8"}])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_plan_is_what_is_taken(harness: NodeHarness, cfg: float, options: Any) -> None:
    model = applied(harness, **options)
    state, _ = harness.step(harness.fresh(), 4, model=model, cfg=cfg, negative=1)
    run = importlib.import_module(harness.nodes["AdaStateStream"].__module__)
    import comfy.samplers

    sampler, sigmas = comfy.samplers.sampler_object("lcm"), torch.tensor((1.0, 0.0))
    inputs = run.StreamInputs(
        model, state, conditioning(0), cfg, sampler, sigmas, 0, 4, conditioning(1)
    )
    run.StreamRun.prepare(inputs)
    conditionings = 1 if cfg == 1.0 else 2
    taken = conditionings * list(pool_of(model).sets.values())[-1].nbytes
    planned = pool_of(model).expected_bytes
    ready = 0 if options else taken // 2
    assert planned == 3 * taken + ready


def test_a_plan_is_said_and_warns_if_it_is_tight(
    harness: NodeHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import comfy.model_management

    with caplog.at_level("INFO"):
        harness.step(harness.fresh(), 2)
    assert "2 chunks = 21 frames, 1.3 s; needs less than 0.1 GiB; your computer has " in caplog.text
    assert "(memory of past frames" in caplog.text
    assert "probably too little" not in caplog.text
    # More than a run takes, less than the host plans, whatever the artist would change.
    small = 2 * pool_of(harness.model).nbytes
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: small)
    with caplog.at_level("INFO"):
        harness.step(harness.fresh(), 2)
    assert (
        "which is probably too little; take a smaller latent: no window, precision or place of the "
        "cache would be enough"
    ) in caplog.text


def test_the_pool_stays_within_its_bytes(harness: NodeHarness) -> None:
    pool = pool_of(harness.model)
    pool.clear()
    state, _ = harness.step(harness.fresh(), 3)
    one = max(kv.nbytes for kv in pool.sets.values())
    assert pool.nbytes == 2 * one  # one stream, however long, has two sets
    unbound, pool.max_bytes = pool.max_bytes, 3 * one
    try:
        for seed in range(5):
            harness.step(state, 2, seed=seed)
            assert pool.nbytes <= 3 * one
    finally:
        pool.max_bytes = unbound


def test_system_memory_is_page_locked_for_a_card_and_where_the_host_allows_it(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    patcher = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher")
    made = {}
    for limit in (-1, 2**30):
        monkeypatch.setattr(comfy.model_management, "MAX_PINNED_MEMORY", limit)
        for device in ("cuda", "cpu"):
            model = SimpleNamespace(
                load_device=torch.device(device), offload_device=torch.device("cpu")
            )
            pool, _ = patcher.make_pool(model, "model", "system memory")
            made[limit > 0, device] = pool.kv_format.pinned
            total = comfy.model_management.get_total_memory(torch.device("cpu"))
            # Torch rounds such tensors up, to twice their size at most.
            assert pool.max_bytes == int(total * (0.25 if pool.kv_format.pinned else 0.5))
    assert [key for key, pinned in made.items() if pinned] == [(True, "cuda")]
