"""LTX-2 through the nodes: frame rates, what is refused, and what is checked of a model."""

from __future__ import annotations

import dataclasses
import importlib
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness
from tests.support.sound_streams import HEIGHT, WIDTH, empty_ltx2, ltx2_model, ltx2_step, ltx2_text
from tests.support.tiny_ltx2 import LTX2_CONFIG
from tests.support.tiny_models import LTX2

OTHER_PAIRING = {"interleaved": "half", "half": "interleaved"}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, LTX2)


def fresh(harness: NodeHarness, **options: Any) -> Any:
    start = options.pop("start", None)
    more = {} if start is None else {"start_latent": start}
    return harness.run("AdaStateNewStream", empty_ltx2(**options), 0, **more)[0]


def both(state: Any) -> tuple[Tensor, ...]:
    last = state.last_chunk
    return (last.content,) if last.sound is None else (last.content, last.sound)


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(both(a), both(b), strict=True))


def refusal(harness: NodeHarness, core: Any, model: Any, state: Any, **changes: Any) -> str:
    with pytest.raises(core.AdaStateError) as error:
        ltx2_step(harness, model, state, 1, **changes)
    return str(error.value)


def test_frame_rates(harness: NodeHarness, core: Any) -> None:
    model, streams = ltx2_model(harness), {}
    for rate in (24, 25, 30, 50):
        streams[rate], _ = ltx2_step(
            harness, model, fresh(harness), 2, positive=ltx2_text(0, frame_rate=float(rate))
        )
        assert streams[rate].clock.period * rate == 200
    counts = [tuple(c.sound.shape[2] for c in state.chunks) for state in streams.values()]
    assert counts == [(18, 25), (17, 24), (14, 20), (9, 12)]
    # Who says nothing takes ComfyUI's default in a new stream, and the rate of one that has begun.
    unsaid, _ = ltx2_step(harness, model, fresh(harness), 2)
    assert same(unsaid, streams[25])
    later, _ = ltx2_step(harness, model, streams[24], 1)
    said, _ = ltx2_step(harness, model, streams[24], 1, positive=ltx2_text(0, frame_rate=24.0))
    assert same(later, said)
    guided = {"cfg": 2.0, "positive": ltx2_text(0, frame_rate=24.0)}
    one, _ = ltx2_step(harness, model, streams[24], 1, negative=ltx2_text(1), **guided)
    negative = ltx2_text(1, frame_rate=24.0)
    two, _ = ltx2_step(harness, model, streams[24], 1, negative=negative, **guided)
    assert same(one, two)


def test_prompts_of_a_timeline_take_the_rate_of_the_stream(
    harness: NodeHarness, core: Any, pack: Any
) -> None:
    import comfy.samplers

    sampling = f"{pack.__name__}.adastate_comfy.sampling"
    names = (f"{sampling}.stream_run", f"{sampling}.timeline_prompts")
    run, prompts = map(importlib.import_module, names)
    names = (f"{core.__name__}.stream.timeline", f"{core.__name__}.stream.pace")
    timeline, pace = map(importlib.import_module, names)
    model, text = ltx2_model(harness), ltx2_text(0, frame_rate=24.0)
    state, _ = ltx2_step(harness, model, fresh(harness), 1, positive=text)
    pages = timeline.parse_timeline("0: one\n2: two")
    plan = timeline.PromptPlan.of(pages, pace.Pace(3, 8, 24.0), state.chunk_index)
    given = prompts.TimelinePrompts(plan, {"one": ltx2_text(1), "two": ltx2_text(2)})
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([1.0, 0.0])
    inputs = run.StreamInputs(
        model, state, given.positive(1), 1.0, sampler, sigmas, 3, 2, prompts=given
    )
    with torch.inference_mode():
        prepared = run.StreamRun.prepare(inputs)
        after = prepared.run(prepared.start, 2)
    assert [chunk.sound.shape[2] for chunk in after.chunks] == [18, 25, 25]
    recorded = [after.conditionings[chunk.positive].unpack() for chunk in after.chunks]
    assert [entry[0][1]["frame_rate"] for entry in recorded] == [24.0] * 3
    assert [chunk.prompt for chunk in after.chunks] == ["", "one", "two"]


def test_frame_rates_that_are_refused(harness: NodeHarness, core: Any) -> None:
    model = ltx2_model(harness)
    begun, _ = ltx2_step(harness, model, fresh(harness), 1)
    words = refusal(harness, core, model, begun, positive=ltx2_text(0, frame_rate=24.0))
    assert words == (
        "This stream was made at another frame rate than the prompt now says. Set the frame_rate "
        "that the stream was begun with, or begin a new one."
    )
    words = refusal(
        harness,
        core,
        model,
        begun,
        positive=ltx2_text(0, frame_rate=25.0),
        negative=ltx2_text(1, frame_rate=30.0),
        cfg=2.0,
    )
    assert words == (
        "Positive says 25 frames per second and negative 30, and a video has one rate. Connect "
        "both prompts to one LTXVConditioning."
    )
    for rate in (0.0, 61.0):
        words = refusal(harness, core, model, begun, positive=ltx2_text(0, frame_rate=rate))
        assert words.startswith(f"The prompt says {rate:g} frames per second, which this model")


def test_what_brings_tokens_or_noise_levels_of_its_own_is_refused(
    harness: NodeHarness, core: Any
) -> None:
    model, state = ltx2_model(harness), fresh(harness)
    for name, kind in (
        ("keyframe_idxs", "pictures"),
        ("guide_attention_entries", "pictures"),
        ("generated_keyframes", "pictures"),
        ("ref_audio", "sound"),
    ):
        text = ltx2_text(0, **{name: torch.zeros(1)})
        words = refusal(harness, core, model, state, positive=text)
        assert words.startswith(f"Positive brings {kind} of its own ({name}), which a stream has")
    mask = ltx2_text(0, concat_mask=torch.zeros((1, 1, 4, HEIGHT, WIDTH)))
    assert refusal(harness, core, model, state, positive=mask).startswith(
        "Positive has a mask (concat_mask), which would keep parts of every chunk from being made."
    )
    masked = {**empty_ltx2(), "noise_mask": torch.ones((1, 1, 4, 1, 1))}
    with pytest.raises(core.AdaStateError, match="has a mask, and every chunk starts from noise"):
        harness.run("AdaStateNewStream", masked, 0)


@pytest.mark.parametrize("part", ["run_vx", "run_ax", "a2v_cross_attn", "v2a_cross_attn"])
def test_a_node_that_leaves_out_parts_of_the_model_is_refused(
    harness: NodeHarness, core: Any, part: str
) -> None:
    state = fresh(harness)
    model = ltx2_model(harness).clone()
    model.model_options["transformer_options"][part] = False
    words = refusal(harness, core, model, state)
    assert words.startswith(f"A node leaves out parts of the model ({part}).")
    if part not in ("run_vx", "run_ax"):
        return
    guiding = ltx2_model(harness).clone()

    def guide(args: dict[str, Any]) -> Tensor:
        import comfy.model_patcher
        import comfy.samplers

        options = comfy.model_patcher.create_model_options_clone(args["model_options"])
        options["transformer_options"][part] = False
        given = (args["model"], [args["cond"]], args["input"], args["sigma"], options)
        (without,) = comfy.samplers.calc_cond_batch(*given)
        return args["denoised"] + 0.1 * (args["denoised"] - without)

    guiding.set_model_sampler_post_cfg_function(guide)
    words = refusal(harness, core, guiding, state)
    assert f"cannot be used in a stream: a forward without {part}. Remove" in words


@pytest.mark.parametrize("node", ["LTXVModalityGuidance", "LTXVSpatioTemporalGuidance"])
def test_guidance_of_comfyuis_own_that_spares_attention_is_served(
    harness: NodeHarness, node: str
) -> None:
    from comfy_extras import nodes_lt

    if not hasattr(nodes_lt, node):
        pytest.skip(f"this ComfyUI has no {node}")
    guidance = getattr(nodes_lt, node)
    said = {"modality_scale": 3.0} if "Modality" in node else {"scale": 1.0, "blocks": "0, 1"}
    model = ltx2_model(harness)
    guided = guidance.execute(model, start_percent=0.0, end_percent=1.0, **said).args[0]
    first, _ = ltx2_step(harness, model, fresh(harness), 2)
    plain, _ = ltx2_step(harness, model, first, 1)
    made, _ = ltx2_step(harness, guided, first, 1)
    assert not same(made, plain)
    assert all(torch.isfinite(track).all() for track in both(made))
    off = {**said, "modality_scale": 1.0} if "Modality" in node else {**said, "scale": 0.0}
    off_model = guidance.execute(model, start_percent=0.0, end_percent=1.0, **off).args[0]
    assert same(ltx2_step(harness, off_model, first, 1)[0], plain)


def test_a_prompt_of_another_text_encoder_is_refused(harness: NodeHarness, core: Any) -> None:
    model, state = ltx2_model(harness), fresh(harness)
    words = refusal(harness, core, model, state, positive=ltx2_text(0, width=80))
    assert words == (
        "This prompt comes from another text encoder than this model's: 80 numbers a token, the "
        "model reads 48. Load the text encoder that belongs to the model."
    )


@pytest.mark.parametrize("sound", [True, False])
def test_a_model_that_is_not_as_described_is_refused(harness: NodeHarness, sound: bool) -> None:
    """As after an update of ComfyUI that moves rotary channels, in any of the calls."""
    model = ltx2_model(harness)
    binding = model.get_attachment("adastate")
    traits = binding.traits
    assert traits.calls.tracked[0].rope is None

    def other(rope: Any) -> list[Any]:
        faster = tuple(tuple(1.5 * f for f in row) for row in rope.frequencies)
        return [
            dataclasses.replace(rope, frequencies=faster),
            dataclasses.replace(rope, pairing=OTHER_PAIRING[rope.pairing]),
        ]

    changes = [{"rope": rope} for rope in other(traits.rope)]
    for number, call in enumerate(traits.calls.of_block if sound else ()):
        for rope in other(call.rope) if call is not None and call.rope is not None else ():
            calls = list(traits.calls.of_block)
            calls[number] = dataclasses.replace(call, rope=rope)
            of_block = dataclasses.replace(traits.calls, of_block=tuple(calls))
            changes.append({"calls": of_block})
    assert len(changes) == (8 if sound else 2)
    for change in changes:
        wrong = dataclasses.replace(binding, traits=dataclasses.replace(traits, **change))
        wrong.layout_checked = set()
        altered = model.clone()
        altered.set_attachments("adastate", wrong)
        with pytest.raises(ValueError, match=r"knows it: frames placed in time"):
            ltx2_step(harness, altered, fresh(harness, sound=sound), 1)


def test_the_layout_is_checked_for_every_frame_rate_and_for_sound(harness: NodeHarness) -> None:
    model = ltx2_model(harness)
    binding = model.get_attachment("adastate")
    for rate, sound in ((24.0, False), (24.0, True), (24.0, True), (30.0, True)):
        text = ltx2_text(0, frame_rate=rate)
        ltx2_step(harness, model, fresh(harness, sound=sound), 1, positive=text)
    found = {(200 / float(clock.period), sound) for clock, sound in binding.layout_checked}
    assert {(round(rate), sound) for rate, sound in found} == {(24, False), (24, True), (30, True)}


def test_layers_keep_their_memory_where_guidance_skips_some(harness: NodeHarness) -> None:
    """A scale of next to nothing gives the stream without the node, to next to nothing."""
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    guided = {"cfg": 2.0, "negative": ltx2_text(1)}
    streams = []
    for scale in (None, 1e-6):
        model = ltx2_model(harness)
        if scale:
            model = SkipLayerGuidanceDiT.execute(model, scale, 0.0, 1.0, "0", "0").args[0]
        streams.append(ltx2_step(harness, model, fresh(harness), 3, **guided)[0])
    for plain, skipping in zip(both(streams[0]), both(streams[1]), strict=True):
        torch.testing.assert_close(skipping, plain, atol=1e-3, rtol=1e-3)


def test_a_compiled_model_is_refused(harness: NodeHarness, core: Any) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = ltx2_model(harness).clone()
    set_torch_compile_wrapper(model=model, backend="eager")
    assert refusal(harness, core, model, fresh(harness)) == (
        "Ltx-2 cannot be streamed compiled: PyTorch cannot follow how it computes its frequencies. "
        "Remove the TorchCompileModel node."
    )


def test_a_file_without_its_header_is_refused(
    node_classes: dict[str, Any], tiny_models: Any, base_dir: Any, core: Any
) -> None:
    from safetensors.torch import load_file, save_file

    models = base_dir / "models" / "diffusion_models"
    weights = load_file(models / LTX2)
    places = ("causal_temporal_positioning", "use_middle_indices_grid")
    bare = {name: value for name, value in LTX2_CONFIG.items() if name not in places}
    header = {"config": json.dumps({"transformer": bare})}
    save_file(weights, models / "tiny_ltx2_bare.safetensors", header)
    with pytest.raises(core.AdaStateError, match="its file lacks the header that says where"):
        NodeHarness(node_classes, "tiny_ltx2_bare.safetensors")
