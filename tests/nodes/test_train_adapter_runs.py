"""Train State Adapter: runs that stop and go on, what they leave, and what is refused."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import LTX2, WAN_LARGER
from tests.support.training import moving_clip, train


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


@pytest.fixture
def cancelled_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Have the artist cancel after so many steps, as the page does: between two bars."""
    import comfy.model_management
    import comfy.utils

    def after(steps: int) -> None:
        def update(bar: Any, value: int, total: Any = None, preview: Any = None) -> None:
            if value == steps:
                comfy.model_management.interrupt_current_processing(True)

        monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", update)

    yield after
    comfy.model_management.interrupt_current_processing(False)


def test_a_cancelled_run_goes_on_as_if_it_had_not_stopped(
    harness: NodeHarness,
    vae: Any,
    base_dir: Path,
    cancelled_after: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import comfy.model_management

    whole, losses, _ = train(harness, vae, 6, name="whole")
    cancelled_after(4)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(harness, vae, 6, name="cut")
    monkeypatch.undo()
    left = load_file(base_dir / "output" / "loras" / "adastate" / "cut.safetensors")
    assert left.keys() == whole.keys()
    assert any(not torch.equal(left[name], whole[name]) for name in left)
    with torch.inference_mode():
        from comfy_extras import nodes_train

        bare = nodes_train.LoraModelLoader.execute(harness.bare, left, 1.0).args[0]
    (model,) = harness.run("AdaStateApply", bare, "adaptive", 3, 3, 1, 3)
    state, _ = harness.step(harness.fresh(), 2, model=model)
    assert torch.isfinite(state.content()).all()
    again, seen, steps = train(harness, vae, 6, name="cut")
    assert (seen, steps) == (losses, 6)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_finished_run_is_returned_and_more_steps_go_on(
    harness: NodeHarness, vae: Any, base_dir: Path
) -> None:
    one, losses, _ = train(harness, vae, 2, name="finished", save_every=1)
    two, again, steps = train(harness, vae, 2, name="finished")
    assert (again, steps) == (losses, 2)
    assert all(torch.equal(one[name], two[name]) for name in one)
    _, more, steps = train(harness, vae, 3, name="finished")
    assert steps == 3
    assert more[:2] == losses
    _, anew, _ = train(harness, vae, 1, name="finished", resume=False)
    assert anew == losses[:1]


def test_another_run_of_the_same_name_is_refused(
    harness: NodeHarness, vae: Any, core: Any, base_dir: Path
) -> None:
    train(harness, vae, 1, name="taken")
    words = '"taken" was begun with another rank. Choose another name, or turn resume off'
    with pytest.raises(core.AdaStateError, match=words):
        train(harness, vae, 1, name="taken", rank=2)
    words = '"taken" was begun with another set of clips and prompt'
    other = {"clips": [moving_clip(seed=5)], "positive": [conditioning(9)]}
    with pytest.raises(core.AdaStateError, match=words):
        train(harness, vae, 1, name="taken", **other)
    file = base_dir / "output" / "adastate" / "training" / "taken.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(core.AdaStateError, match=r"taken\.safetensors is damaged"):
        train(harness, vae, 1, name="taken")


def test_a_run_that_breaks_down_keeps_what_it_had(
    harness: NodeHarness, vae: Any, core: Any, base_dir: Path
) -> None:
    train(harness, vae, 1, name="broken")
    kept = base_dir / "output" / "adastate" / "training" / "broken.safetensors"
    before = kept.read_bytes()
    with pytest.raises(core.AdaStateError) as error:
        train(harness, vae, 3, name="broken", positive=[nan_prompt()], resume=False)
    words = "Training broke down at step 1: its loss is not a number. Lower learning_rate"
    assert str(error.value).startswith(words)
    assert kept.read_bytes() == before


def nan_prompt() -> list[Any]:
    prompt = conditioning(0)
    prompt[0][0][:] = torch.nan
    return prompt


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "a short clip": (
        {"clips": [moving_clip(), moving_clip(20)]},
        "Clip 2 has 20 frames, and training takes 21 or more. Connect a longer clip, or lower "
        "chunk_frames on Apply AdaState.",
    ),
    "a tiny picture": (
        {"clips": [moving_clip(height=8)]},
        "Clip 1 is too small: 48 x 8 pixels. Set width and height, or connect larger clips.",
    ),
    "prompts that do not match": (
        {"positive": [conditioning(0), conditioning(1)]},
        "There are 2 prompts for 1 clips. Connect one prompt for all clips, or one for each.",
    ),
    "two prompts in one": (
        {"positive": [conditioning(0) + conditioning(1)]},
        "Positive is 2 prompts combined, and a chunk takes one. Connect one prompt to positive; "
        "to change it on the way, use Stream Timeline.",
    ),
    "a name that is none": (
        {"name": "../x"},
        'The adapter cannot have the name "../x". Change name on Train State Adapter.',
    ),
    "half a schedule": (
        {"sigmas": torch.tensor((1.0, 0.5))},
        "The sigmas do not run down to 0. Connect the whole schedule, not one part of it.",
    ),
    "a LoRA of something else": (
        {"lora": {"x.lora_up.weight": torch.zeros(1, 1)}},
        "This LoRA lacks 30 of the 30 layers that are trained. Disconnect lora, and load it in "
        "front of Apply AdaState to train on top of it.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_is_one_sentence(
    harness: NodeHarness, vae: Any, core: Any, case: str, base_dir: Path
) -> None:
    changes, words = REFUSALS[case]
    with pytest.raises(core.AdaStateError) as error:
        train(harness, vae, 1, **{"name": "refused", **changes})
    assert str(error.value) == words
    assert not (base_dir / "output" / "loras" / "adastate" / "refused.safetensors").exists()


def test_models_that_cannot_be_trained_are_refused(
    harness: NodeHarness, node_classes: dict[str, Any], vae: Any, core: Any
) -> None:
    sounding = NodeHarness(node_classes, LTX2)
    words = "An adapter is trained on video alone, and ltx-2 makes sound along with it"
    with pytest.raises(core.AdaStateError, match=words):
        train(sounding, vae, 1)
    with pytest.raises(core.AdaStateError, match="Model is not from Apply AdaState"):
        train(harness, vae, 1, model=harness.bare)


def test_what_does_not_fit_is_refused_before_it_begins(
    harness: NodeHarness, vae: Any, core: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    plans = importlib.import_module(f"{pack.__name__}.adastate_comfy.training.memory_plan")
    blocks = importlib.import_module(f"{core.__name__}.rollout.latent_block")
    bound = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.binding").bound_model(
        harness.model
    )
    block = blocks.LatentBlock(torch.zeros((1, 16, 4, 4, 6)))
    plan = plans.plan_memory(bound, block, 4, torch.float32)
    room = (plan.total(checkpointing=True) + plan.total(checkpointing=False)) // 2
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *a, **k: room)
    with pytest.raises(core.AdaStateError, match="Turn gradient_checkpointing on"):
        train(harness, vae, 1, name="large")
    train(harness, vae, 1, name="large", gradient_checkpointing=True)
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *a, **k: 1000)
    with pytest.raises(core.AdaStateError, match=r"Training needs about .* GiB, and your computer"):
        train(harness, vae, 1, name="larger", gradient_checkpointing=True)
