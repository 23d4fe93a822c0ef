"""What a plan announces, beside what a run takes and what the host keeps free for it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning, pool_of
from tests.support.tiny_models import WAN, WAN_LARGER, WAN_LOW

GIB = 2**30
WEIGHTS: dict[str, dict[str, Any]] = {
    "default": {},
    "float16": {"dtype": torch.float16},
    "bfloat16": {"dtype": torch.bfloat16},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture
def memory(harness: NodeHarness, pack: Any) -> Any:
    """The memory of a MODEL of its own, which has made four chunks."""
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    harness.step(harness.fresh(), 4, model=model)
    return importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).pool_patcher_of(model)


def loaded(name: str, options: dict[str, Any]) -> Any:
    import comfy.sd
    import folder_paths

    path = folder_paths.get_full_path_or_raise("diffusion_models", name)
    return comfy.sd.load_diffusion_model(path, model_options=dict(options))


def applied(harness: NodeHarness, bare: Any, anchor: str = "adaptive", **options: Any) -> Any:
    anchor_frames = 6 if anchor == "rolling" else 3
    return harness.run("AdaStateApply", bare, anchor, 3, 3, 1, anchor_frames, **options)[0]


def require_planned_is_taken(pack: Any, model: Any) -> None:
    """Compare after a run that leaves two points of one stream in the pool."""
    kv_memory = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher")
    planned = kv_memory.pool_patcher_of(model).starts_with
    assert planned == pytest.approx(pool_of(model).nbytes / 2, rel=0.01)


@pytest.mark.parametrize("precision", ["model", "fp8"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_plan_knows_in_which_type_a_model_computes(
    harness: NodeHarness, pack: Any, weights: str, precision: str
) -> None:
    bare = loaded(WAN_LARGER, WEIGHTS[weights])
    model = applied(harness, bare, cache_precision=precision)
    harness.step(harness.fresh(), 4, model=model)
    require_planned_is_taken(pack, model)
    # The host has no computation in bfloat16 on this processor unless it is asked for one.
    shorter = bare.clone()
    shorter.set_model_compute_dtype(torch.bfloat16)
    model = applied(harness, shorter, cache_precision=precision)
    harness.step(harness.fresh(), 4, model=model)
    require_planned_is_taken(pack, model)


@pytest.mark.newest
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("anchor", ["adaptive", "frozen", "ema", "dual_ema", "rolling", "none"])
def test_the_plan_knows_every_anchor(
    harness: NodeHarness, pack: Any, anchor: str, compute: torch.dtype
) -> None:
    """Averages are kept in float32 whatever the model computes in."""
    bare = harness.bare.clone()
    bare.set_model_compute_dtype(compute)
    model = applied(harness, bare, anchor)
    state = harness.fresh(batch=2)
    harness.step(state, 8, model=model, cfg=3.0, negative=1)
    require_planned_is_taken(pack, model)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_plan_counts_both_models_of_a_pair(harness: NodeHarness, pack: Any, cfg: float) -> None:
    import comfy.samplers

    high = applied(harness, loaded(WAN, WEIGHTS["fp8_e4m3fn"]))
    low = applied(harness, loaded(WAN_LOW, WEIGHTS["fp8_e4m3fn"]))
    harness.run(
        "AdaStateStream",
        high,
        harness.fresh(),
        positive=conditioning(0),
        cfg=cfg,
        seed=0,
        negative=conditioning(1),
        sampler=comfy.samplers.sampler_object("lcm"),
        chunks=4,
        sigmas=torch.tensor((1.0, 0.6, 0.0)),
        model_low_noise=low,
    )
    require_planned_is_taken(pack, high)
    assert not pool_of(low).sets


class Graphics:
    """The host's memory management on a pretended graphics card of 16 GiB."""

    def __init__(self, patch: pytest.MonkeyPatch, free: int) -> None:
        import comfy.model_management as management
        from comfy.model_patcher import ModelPatcher

        self.free = free
        self.given: dict[str, float] = {}
        """Bytes that weights may take, by model class."""
        self.freed: list[tuple[float, bool]] = []
        """How much the host asked for, and whether without unloading dynamic models."""
        load, release = ModelPatcher.partially_load, management.free_memory

        def partially_load(this: Any, device: Any, extra_memory: float = 0, **rest: Any) -> Any:
            self.given[type(this.model).__name__] = extra_memory
            return load(this, device, extra_memory, **rest)

        def free_memory(needed: float, *rest: Any, **options: Any) -> Any:
            self.freed.append((needed, options.get("for_dynamic", False)))
            return release(needed, *rest, **options)

        def get_free_memory(device: Any = None, torch_free_too: bool = False) -> Any:
            return (self.free, 0) if torch_free_too else self.free

        patch.setattr(management, "is_device_cpu", lambda device: False)
        patch.setattr(management, "lowvram_available", True)
        patch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
        patch.setattr(management, "get_free_memory", get_free_memory)
        patch.setattr(management, "free_memory", free_memory)
        patch.setattr(ModelPatcher, "partially_load", partially_load)
        self.minimum = management.minimum_inference_memory()


@pytest.fixture
def graphics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphics]:
    import comfy.model_management

    comfy.model_management.unload_all_models()
    yield Graphics(monkeypatch, 16 * GIB)
    monkeypatch.undo()
    comfy.model_management.unload_all_models()


def prepare(harness: NodeHarness, pack: Any, model: Any, announced: int) -> dict[str, Any]:
    """Announce, then open a session as a step does; return what the host was asked to load."""
    import comfy.model_management as management

    memory = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).pool_patcher_of(model)
    asked: dict[str, Any] = {}
    load = management.load_models_gpu

    def load_models_gpu(models: Any, **options: Any) -> Any:
        asked.update(options, models=models, dynamic=[m.is_dynamic() for m in models])
        return load(models, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(management, "load_models_gpu", load_models_gpu)
        announce = type(memory).announce
        patch.setattr(
            type(memory), "announce", lambda this, expected, with_: announce(this, announced, 0)
        )
        harness.step(harness.fresh(), 1, model=model)
    return asked


@pytest.mark.parametrize("announced", [1, 4, 8, 12])
def test_the_host_keeps_the_announced_bytes_free_of_weights(
    harness: NodeHarness, pack: Any, graphics: Graphics, announced: int
) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    plain = prepare(harness, pack, model, 0)
    assert graphics.given["WAN21"] > graphics.free - 1.1 * graphics.minimum
    asked = prepare(harness, pack, model, announced * GIB)
    assert 0 < graphics.given["WAN21"] <= graphics.free - announced * GIB - graphics.minimum
    for name in ("memory_required", "minimum_memory_required"):
        assert asked[name] == plain[name] + announced * GIB


def test_weights_leave_room_also_where_no_session_loads_them(
    harness: NodeHarness, graphics: Graphics
) -> None:
    import comfy.model_management

    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    pool_of(model).expected_bytes = 12 * GIB
    models = [model, *model.get_nested_additional_models()]
    comfy.model_management.load_models_gpu(models, memory_required=2 * GIB)
    assert graphics.given["WAN21"] <= graphics.free - 12 * GIB - graphics.minimum
    comfy.model_management.load_models_gpu([harness.bare], memory_required=2 * GIB)
    assert graphics.given["WAN21"] > graphics.free - 12 * GIB


def test_a_pool_takes_nothing_from_the_weights_on_another_device(
    harness: NodeHarness, pack: Any
) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    kv_memory = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher")
    memory = kv_memory.pool_patcher_of(model)
    memory.announce(12 * GIB, 0)
    assert memory.pending_bytes(torch.device("cpu")) == 12 * GIB
    assert memory.pending_bytes(torch.device("cuda", 0)) == 0


def test_devices_are_compared_by_what_they_are(pack: Any) -> None:
    same = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).same_device
    device = torch.device
    assert same(device("mps"), device("mps:0"))
    assert same(device("cuda", 1), device("cuda:1"))
    assert not same(device("cuda:0"), device("cuda:1"))
    assert not same(device("cpu"), device("cuda"))


def test_a_session_does_not_unload_what_the_host_moves_on_demand(
    harness: NodeHarness, pack: Any, graphics: Graphics
) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    model.is_dynamic = lambda: True
    asked = prepare(harness, pack, model, 4 * GIB)
    assert asked["dynamic"] == [True, True]
    memory = asked["models"][1]
    assert type(memory).__name__ == "KVPoolPatcher"
    # Once it is loaded it is no such model: it does not give way on its own.
    assert not memory.is_dynamic()
    assert all(not m.is_dynamic() for m in model.get_nested_additional_models())


def test_the_host_frees_the_oldest_sets_first(memory: Any) -> None:
    import comfy.model_management as management

    names = list(memory.model.sets)
    assert len(names) == 2
    assert any(each.model is memory for each in management.current_loaded_models)
    assert memory.loaded_size() == memory.model.nbytes == memory.model_size()
    one = memory.model.sets[names[1]].nbytes
    assert memory.partially_unload(memory.offload_device, one) == one
    assert list(memory.model.sets) == names[1:]
    management.unload_all_models()
    assert memory.loaded_size() == 0


def test_what_a_run_goes_on_from_stays_and_other_streams_give_way(memory: Any) -> None:
    names = list(memory.model.sets)
    assert memory.free_others(1e30) == memory.starts_with
    assert list(memory.model.sets) == names[1:]
    assert memory.free_others(1e30) == 0


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_sets_that_were_moved_away_come_back_with_the_next_run(
    harness: NodeHarness, pack: Any, device: str
) -> None:
    """On a graphics card they leave for system memory; here, for a device that shows it."""
    import comfy.model_management as management

    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    state, _ = harness.step(harness.fresh(), 4, model=model)
    memory = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).pool_patcher_of(model)
    memory.offload_device = torch.device(device)
    before = memory.loaded_size()
    assert memory.partially_unload(memory.offload_device, 1) == before / 2
    if device == "cpu":
        assert len(memory.model.sets) == 1  # the same device: moving would free nothing
    else:
        assert len(memory.model.sets) == 2
        assert memory.model_size() == before / 2  # what a run does not need stays away
    management.load_models_gpu([memory])
    assert memory.loaded_size() == before / 2
    after, _ = harness.step(state, 1, model=model)
    assert torch.isfinite(after.newest_content()).all()
