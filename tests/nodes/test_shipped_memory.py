"""What the shipped workflow of the 14B pair plans, and what its note says of it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN_22_I2V

WORKFLOW = Path(__file__).parents[2] / "workflows" / "11 Stream a picture with Wan 2.2 14B.json"
GIB = 2**30


@pytest.fixture(scope="module")
def values() -> dict[str, list[list[Any]]]:
    """The widget values of the workflow, by node type."""
    found: dict[str, list[list[Any]]] = {}
    for node in json.loads(WORKFLOW.read_text(encoding="utf-8"))["nodes"]:
        found.setdefault(node["type"], []).append(node["widgets_values"])
    return found


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_22_I2V)


@pytest.fixture(scope="module")
def large(harness: NodeHarness) -> Any:
    """A model of the size of one of the pair, without its weights; it computes in bfloat16."""
    from comfy.model_patcher import ModelPatcher

    tiny = harness.bare.model.model_config
    size = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
    config = type(tiny)({**tiny.unet_config, **size})
    config.set_inference_dtype(torch.float8_e4m3fn, torch.bfloat16)
    device = torch.device("cpu")
    return ModelPatcher(config.get_model({}, "", device="meta"), device, device)


def planned(
    harness: NodeHarness,
    pack: Any,
    large: Any,
    options: list[Any],
    size: tuple[int, int],
    cfg: float,
) -> Any:
    plan, binding = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.{name}")
        for name in ("sampling.memory_plan", "model.binding")
    )
    (model,) = harness.run("AdaStateApply", large, *options)
    bound = binding.bound_model(model)
    config = bound.config
    frames = config.state_frames + config.chunk_frames
    shape = (1, 16, frames, size[1] // 8, size[0] // 8)
    block = importlib.import_module(
        f"{pack.__name__}.adastate_core.rollout.latent_block"
    ).LatentBlock(torch.zeros(()).expand(shape))
    made = plan.plan_memory(
        [bound, bound], block, guided=cfg != 1.0, chunks=7, together=7, first=True
    )
    return made, plan.announce(made, bound)


@pytest.mark.parametrize("card", [24, 32])
def test_the_pair_streams_on_a_card_of(
    harness: NodeHarness,
    pack: Any,
    large: Any,
    values: Any,
    card: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: card * GIB)
    first, second = values["AdaStateApply"]
    assert first == second
    (picture,), (stream,) = values["WanImageToVideo"], values["AdaStateStream"]
    plan, said = planned(harness, pack, large, first, tuple(picture[:2]), stream[0])
    assert "probably too little" not in said
    assert "7 chunks = 81 frames, 5.1 s; needs about " in said
    assert f"; your computer has {card}" in said
    assert plan.cache_bytes + plan.ready_bytes + plan.activation_bytes < 0.9 * card * GIB


@pytest.mark.parametrize(
    ("size", "cfg", "row"),
    [
        ((640, 352), 3.5, "640 x 352, as shipped | 3.5"),
        ((832, 480), 3.5, "832 x 480 | 3.5"),
        ((832, 480), 1.0, "832 x 480, 4-step LoRAs | 1"),
    ],
)
def test_the_note_says_what_is_planned(
    harness: NodeHarness,
    pack: Any,
    large: Any,
    values: Any,
    size: tuple[int, int],
    cfg: float,
    row: str,
) -> None:
    plan, _ = planned(harness, pack, large, values["AdaStateApply"][0], size, cfg)
    notes = "".join(text for (text,) in values["MarkdownNote"])
    assert f"| {row} | {(plan.cache_bytes + plan.ready_bytes) / GIB:.1f} GiB |" in notes
