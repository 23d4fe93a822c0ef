"""Bad input gets one clear sentence, before any work where possible."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import WAN, WAN_CONTROL, WAN_LARGER


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture(scope="module")
def streamed(harness: NodeHarness) -> Any:
    return harness.step(harness.fresh(), 2)[0]


def refused(match: str) -> Any:
    return pytest.raises(ValueError, match=match)


def test_a_model_without_apply(harness: NodeHarness) -> None:
    with refused(r"^Model is not from Apply AdaState\. Put Apply AdaState between"):
        harness.step(harness.fresh(), model=harness.bare)


def test_an_unsupported_family(harness: NodeHarness) -> None:
    import comfy.model_patcher
    from comfy.ldm.cogvideo.model import CogVideoXTransformer3DModel

    class Holder(torch.nn.Module):
        def __init__(self, dit: Any) -> None:
            super().__init__()
            self.diffusion_model = dit

    with torch.device("meta"):
        other = Holder(CogVideoXTransformer3DModel.__new__(CogVideoXTransformer3DModel))
    device = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(other, device, device)
    with refused(
        r"cannot stream this model \(CogVideoXTransformer3DModel\)\. .*: Wan 2\.1 or 2\.2 text"
    ):
        harness.run("AdaStateApply", patcher, "adaptive", 3, 3, 1, 3)


def test_a_variant_that_cannot_be_streamed_is_refused_with_its_reason(core: Any) -> None:
    class VaceWanModel:
        model_type = "vace"

    with refused("cannot stream VaceWanModel: VACE adds a control stream"):
        core.describe_model(VaceWanModel())


def test_wrong_latent_channels(harness: NodeHarness) -> None:
    latent = {"samples": torch.zeros((1, 4, 5, 4, 6))}
    (state,) = harness.run("AdaStateNewStream", latent, 0)
    with refused("^The empty latent is for another model: it has 4 channels, this model 16"):
        harness.step(state)


def test_a_picture_latent_and_a_masked_latent(harness: NodeHarness) -> None:
    with refused("^The latent of New Stream is a picture, not a video"):
        harness.run("AdaStateNewStream", {"samples": torch.zeros((1, 16, 4, 6))}, 0)
    masked = {"samples": torch.zeros((1, 16, 5, 4, 6)), "noise_mask": torch.ones(1)}
    with refused("^The latent of New Stream has a mask"):
        harness.run("AdaStateNewStream", masked, 0)


def test_a_state_of_another_model(
    harness: NodeHarness, streamed: Any, node_classes: dict[str, Any]
) -> None:
    other = NodeHarness(node_classes, WAN_LARGER)
    with refused(
        r"^This stream was made with another model: wan2\.1 .*Load the model that made it"
    ):
        other.step(streamed)
    assert harness.step(streamed)[0].chunk_index == 3


def test_a_seed_picture_of_another_size(harness: NodeHarness, streamed: Any) -> None:
    picture = {"samples": torch.zeros((1, 16, 1, 8, 8))}
    with refused("^The given latent is 8 x 8; this stream is 6 x 4"):
        harness.run("AdaStateReset", streamed, "anchor", picture)


def test_guidance_without_a_negative(harness: NodeHarness) -> None:
    with refused(
        r"^cfg above 1 needs a negative prompt\. Connect one to negative, or set cfg to 1\.$"
    ):
        harness.step(harness.fresh(), cfg=3.0)
    with refused("^This sampler or model compares with a negative prompt"):
        harness.step(harness.fresh(), sampler="euler_cfg_pp")


def test_several_or_partial_conditionings(harness: NodeHarness) -> None:
    import comfy.samplers

    def stream(positive: list[Any]) -> None:
        harness.run(
            "AdaStateStream",
            model=harness.model,
            state=harness.fresh(),
            positive=positive,
            cfg=1.0,
            sampler=comfy.samplers.sampler_object("euler"),
            sigmas=torch.tensor([1.0, 0.0]),
            seed=0,
            chunks=1,
        )

    with refused("^Positive is 2 prompts combined, and a chunk takes one"):
        stream(conditioning(0) + conditioning(1))
    for key in ("mask", "area", "start_percent"):
        with refused(rf"a part of the picture or of the steps only \({key}\)"):
            stream([[conditioning(0)[0][0], {key: 0.5}]])
    with refused(r"cannot keep this part of a prompt: conditioning\[0\]\[1\]\.control"):
        stream([[conditioning(0)[0][0], {"control": object()}]])


def test_sigmas_that_end_in_noise(harness: NodeHarness) -> None:
    with refused("^The sigmas do not run down to 0"):
        harness.step(harness.fresh(), sigmas=(1.0, 0.5))


def test_cores_own_autoregressive_sampler(harness: NodeHarness) -> None:
    with refused("^Sampler AR Video makes chunks by itself"):
        harness.step(harness.fresh(), sampler="ar_video")


def test_context_windows_and_step_skippers(harness: NodeHarness) -> None:
    import comfy.patcher_extension

    windows = harness.model.clone()
    windows.model_options["context_handler"] = object()
    with refused("takes no context windows"):
        harness.step(harness.fresh(), model=windows)
    skipper = harness.model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    skipper.add_wrapper_with_key(kind, "easycache", lambda executor, *a, **k: executor(*a, **k))
    with refused("^Easycache skips steps"):
        harness.step(harness.fresh(), model=skipper)


def test_scaled_temporal_positions(harness: NodeHarness) -> None:
    model = harness.model.clone()
    model.model_options["transformer_options"]["rope_options"] = {"scale_t": 2.0}
    with refused(r"^ScaleROPE stretches time \(scale_t\)"):
        harness.step(harness.fresh(), model=model)


def test_layers_replaced_by_injections(harness: NodeHarness) -> None:
    model = harness.model.clone()
    model.set_injections("bypass_lora", [])
    with refused(r"replaced layers of the model \(bypass_lora\)\. Use Load LoRA"):
        harness.step(harness.fresh(), model=model)


def test_forwards_that_never_reach_the_model(harness: NodeHarness, streamed: Any) -> None:
    """What a cache of another pack does by replacing the model's forward."""
    model = harness.model.clone()
    model.set_model_unet_function_wrapper(lambda apply, args: torch.zeros_like(args["input"]))
    with refused("^Only 0 of 2 layers of the model ran. Remove nodes that skip steps"):
        harness.step(streamed, model=model, seed=4321, prompt=5, chunks=2)
    assert harness.step(streamed)[0].chunk_index == 3


def test_channels_of_controls(node_classes: dict[str, Any], tiny_models: Any) -> None:
    with refused("cannot stream WanModel: its input has 32 channels of controls besides the video"):
        NodeHarness(node_classes, WAN_CONTROL)


def test_a_rolling_anchor_of_too_few_frames(harness: NodeHarness) -> None:
    with refused("^A rolling anchor needs more anchor_frames than window_frames"):
        harness.run("AdaStateApply", harness.bare, "rolling", 3, 3, 1, 3)


def test_a_rate_out_of_range(harness: NodeHarness) -> None:
    with refused(r"^ema_fast_rate is -0\.1; it goes from 0 to 1"):
        harness.run("AdaStateApply", harness.bare, "dual_ema", 3, 3, 1, 3, ema_fast_rate=-0.1)


def test_a_cache_larger_than_the_device(harness: NodeHarness) -> None:
    latent = {"samples": torch.zeros(1).expand(1, 16, 1, 16384, 16384)}
    (state,) = harness.run("AdaStateNewStream", latent, 0)
    with refused(r"^This needs about \d+ GiB, and your computer has \d+\. Take a smaller"):
        harness.step(state)


def test_a_size_that_the_computer_cannot_hold_is_refused_before_work(
    harness: NodeHarness, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a computer of 24 GiB, which the one of the tests need not be."""
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: 24 << 30)
    latent = {"samples": torch.zeros(1).expand(1, 16, 1, 8192, 8192)}
    (state,) = harness.run("AdaStateNewStream", latent, 0)
    with pytest.raises(core.AdaStateError) as error:
        harness.step(state)
    said = str(error.value)
    assert re.fullmatch(
        r"This needs about \d+ GiB, and your computer has 24\. Take a smaller width and height, or "
        r"lower window_frames or set cache_precision to fp8 on Apply AdaState\.",
        said,
    ), said


def test_nan_in_a_chunk(harness: NodeHarness, streamed: Any) -> None:
    import comfy.patcher_extension

    def poison(executor: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(*args, **kwargs) * float("nan")

    model = harness.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "nan", poison)
    with refused("^Chunk 2 came out broken"):
        harness.step(streamed, model=model)
    assert harness.step(streamed)[0].chunk_index == 3


@pytest.mark.parametrize("name", ["../escape", "/etc/adastate", "a/../../b", "", "..", "."])
def test_names_that_leave_the_output_folder(
    harness: NodeHarness, streamed: Any, base_dir: Path, name: str
) -> None:
    before = set(base_dir.rglob("*"))
    with refused("^filename_prefix .* leads out of the output folder"):
        harness.run("AdaStateSave", streamed, name)
    assert set(base_dir.rglob("*")) == before


def test_unreadable_state_files(harness: NodeHarness, streamed: Any, base_dir: Path) -> None:
    (path,) = harness.run("AdaStateSave", streamed, "broken/state")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    name = f"broken/{Path(path).name} [output]"
    assert harness.nodes["AdaStateLoad"].validate_inputs(name) is True
    with refused(f"^State file {Path(path).name} is damaged"):
        harness.run("AdaStateLoad", name)
    for foreign in ("../x.adastate.safetensors", "gone.adastate.safetensors [input]", "a.txt"):
        message = harness.nodes["AdaStateLoad"].validate_inputs(foreign)
        assert "Choose another file on Load State" in message
