"""What shipped workflows of large models plan, and what their notes say of it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.sound_streams import has_minimax
from tests.support.tiny_models import LTX23, MINIMAX_H3, WAN_22_I2V

WORKFLOWS = Path(__file__).parents[2] / "workflows"
PAIR = "11 Stream a picture with Wan 2.2 14B"
H3, LTX2 = "12 Stream MiniMax H3 with sound", "13 Stream LTX-2 with sound"
GIB = 2**30


def values_of(name: str) -> dict[str, list[list[Any]]]:
    """Return the widget values of a workflow, by node type."""
    found: dict[str, list[list[Any]]] = {}
    for node in json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))["nodes"]:
        found.setdefault(node["type"], []).append(node["widgets_values"])
    return found


@pytest.fixture(scope="module")
def values() -> dict[str, list[list[Any]]]:
    """The widget values of the workflow of the pair."""
    return values_of(PAIR)


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


def latent_block(pack: Any, *shapes: tuple[int, ...]) -> Any:
    """Return a block without anything in it, by the shapes of its tracks."""
    core = importlib.import_module(f"{pack.__name__}.adastate_core.rollout.latent_block")
    return core.LatentBlock(*(torch.empty(shape, device="meta") for shape in shapes))


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
    block = latent_block(pack, shape)
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


H3_SIZE = {"hidden_size": 5376, "num_layers": 50, "num_attention_heads": 56}
LTX2_SIZE = {
    "num_layers": 48,
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "cross_attention_dim": 4096,
    "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64,
    "audio_cross_attention_dim": 2048,
    "caption_channels": 3840,
    "connector_num_attention_heads": 32,
    "connector_attention_head_dim": 128,
    "audio_connector_attention_head_dim": 64,
}


@pytest.mark.parametrize(
    ("name", "size", "row"),
    [
        (H3, (864, 480), "864 x 480, as shipped"),
        (H3, (1344, 768), "1344 x 768"),
        (LTX2, (768, 512), "768 x 512, as shipped"),
        (LTX2, (1280, 704), "1280 x 704"),
    ],
)
def test_the_notes_with_sound_say_what_is_planned(
    node_classes: dict[str, Any],
    tiny_models: Any,
    pack: Any,
    name: str,
    size: tuple[int, int],
    row: str,
) -> None:
    from comfy.model_patcher import ModelPatcher

    if name == H3 and not has_minimax():
        pytest.skip("this ComfyUI has no MiniMax H3")
    harness = NodeHarness(node_classes, MINIMAX_H3 if name == H3 else LTX23)
    tiny, full = harness.bare.model.model_config, H3_SIZE if name == H3 else LTX2_SIZE
    config = type(tiny)({**tiny.unet_config, **full})
    config.set_inference_dtype(torch.float8_e4m3fn, torch.bfloat16)
    device = torch.device("cpu")
    large = ModelPatcher(config.get_model({}, "", device="meta"), device, device)
    shipped = values_of(name)
    ((*options,),) = shipped["AdaStateApply"]
    plan, binding = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.{each}")
        for each in ("sampling.memory_plan", "model.binding")
    )
    (model,) = harness.run("AdaStateApply", large, *options)
    bound = binding.bound_model(model)
    content, frames = options[1], options[1] + options[3]
    width, height = size
    if name == H3:  # of which the largest chunk has 29 latents of sound
        shapes = (1, 24, frames, height // 16, width // 16), (1, 32, 29, 2)
    else:
        shapes = (1, 128, frames, height // 32, width // 32), (1, 8, 8 * content, 16)
    (chunks,) = [each[3] for each in shipped["AdaStateRender"]]
    made = plan.plan_memory(
        [bound], latent_block(pack, *shapes), guided=False, chunks=chunks, together=1, first=True
    )
    notes = "".join(text for (text,) in shipped["MarkdownNote"])
    assert f"| {row} | {(made.cache_bytes + made.ready_bytes) / GIB:.1f} GiB |" in notes
