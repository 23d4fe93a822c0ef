"""LTX-2 through the nodes: streams with sound and without, their edits, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, pool_of
from tests.support.sound_streams import (
    HEIGHT,
    LTX2_WIDTHS,
    WIDTH,
    empty_ltx2,
    ltx2_model,
    ltx2_step,
    ltx2_text,
    nested,
)
from tests.support.tiny_models import LTX2, LTX2_INTERLEAVED, LTX23

OTHER_PAIRING = {"interleaved": "half", "half": "interleaved"}


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, LTX2)


@pytest.fixture(scope="module")
def three(harness: NodeHarness) -> tuple[Any, Any]:
    """Return a model and a stream of three chunks."""
    model = ltx2_model(harness)
    return model, ltx2_step(harness, model, fresh(harness), 3)[0]


def fresh(harness: NodeHarness, **options: Any) -> Any:
    start = options.pop("start", None)
    more = {} if start is None else {"start_latent": start}
    return harness.run("AdaStateNewStream", empty_ltx2(**options), 0, **more)[0]


def clip(frames: int, ticks: int | None, seed: int = 1) -> dict[str, Any]:
    source = torch.Generator().manual_seed(seed)
    video = torch.randn((1, 128, frames, HEIGHT, WIDTH), generator=source)
    if ticks is None:
        return {"samples": video}
    return nested(video, torch.randn((1, 8, ticks, 16), generator=source))


def both(state: Any) -> tuple[Tensor, ...]:
    last = state.last_chunk
    return (last.content,) if last.sound is None else (last.content, last.sound)


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(both(a), both(b), strict=True))


@pytest.mark.parametrize("file", [LTX2, LTX2_INTERLEAVED, LTX23])
@pytest.mark.parametrize("sound", [True, False])
def test_a_stream_at_constant_memory(
    node_classes: dict[str, Any], tiny_models: Any, file: str, sound: bool
) -> None:
    harness = NodeHarness(node_classes, file)
    text = ltx2_text(0, LTX2_WIDTHS[file], frame_rate=24.0)
    model, state, sizes = ltx2_model(harness), fresh(harness, sound=sound), []
    for chunk in range(8):
        state, latent = ltx2_step(harness, model, state, 1, positive=text)
        tracks = latent["samples"].unbind() if sound else [latent["samples"]]
        shapes = [(1, 128, 3, HEIGHT, WIDTH), (1, 8, 25 if chunk else 18, 16)]
        assert [tuple(track.shape) for track in tracks] == shapes[: len(tracks)]
        assert all(torch.isfinite(track).all() for track in tracks)
        sizes.append(max((kv.nbytes for kv in pool_of(model).sets.values()), default=0))
    assert sizes[0] == 0
    assert len(set(sizes[2:])) == 1
    assert state.content().shape[2] == 24
    assert (state.sound().shape if sound else state.sound()) == (
        (1, 8, 18 + 7 * 25, 16) if sound else None
    )


@pytest.mark.parametrize("sound", [True, False])
def test_chunks_together_are_chunks_one_by_one(harness: NodeHarness, sound: bool) -> None:
    model = ltx2_model(harness)
    together, _ = ltx2_step(harness, model, fresh(harness, sound=sound), 4)
    state = fresh(harness, sound=sound)
    for _ in range(4):
        state, _ = ltx2_step(harness, model, state, 1)
    assert torch.equal(together.content(), state.content())
    if sound:
        assert torch.equal(together.sound(), state.sound())
    cold, _ = ltx2_step(harness, ltx2_model(harness), state, 1)
    warm, _ = ltx2_step(harness, model, together, 1)
    assert same(cold, warm)


def test_sound_and_picture_hear_and_see_each_other(harness: NodeHarness) -> None:
    """Of a start clip, another sound changes the pictures, and other pictures the sound."""
    model, source = ltx2_model(harness), torch.Generator().manual_seed(6)
    video = torch.randn((1, 128, 3, HEIGHT, WIDTH), generator=source)
    sound = torch.randn((1, 8, 17, 16), generator=source)
    plain, mute, still = (
        ltx2_step(harness, model, fresh(harness, start=nested(*start)), 1)[0]
        for start in ((video, sound), (video, sound.flip(2)), (video.flip(4), sound))
    )
    assert not torch.equal(plain.newest_content(), mute.newest_content())
    assert not torch.equal(plain.last_chunk.sound, still.last_chunk.sound)


def test_several_videos_at_a_time(harness: NodeHarness) -> None:
    state, latent = ltx2_step(harness, ltx2_model(harness), fresh(harness, batch=2), 2)
    video, sound = latent["samples"].unbind()
    assert (video.shape[0], sound.shape[0]) == (2, 2)
    assert not torch.equal(video[0], video[1])
    assert torch.isfinite(state.content()).all()


def test_guidance_has_a_memory_of_its_own(harness: NodeHarness, three: tuple[Any, Any]) -> None:
    model, state = three
    plain, _ = ltx2_step(harness, model, state, 1)
    negative = {"cfg": 3.0, "negative": ltx2_text(9, words=4)}
    guided, _ = ltx2_step(harness, model, state, 1, **negative)
    assert not same(guided, plain)
    again, _ = ltx2_step(harness, ltx2_model(harness), state, 1, **negative)
    assert same(guided, again)


def test_a_state_with_sound_survives_a_file(
    harness: NodeHarness, three: tuple[Any, Any], core: Any, tmp_path: Any
) -> None:
    files = importlib.import_module(f"{core.__name__}.files.state_file")
    model, state = three
    path = tmp_path / "sound.adastate.safetensors"
    files.save_state(state, path)
    opened = files.load_state(path)
    assert (opened.sound_shape, opened.clock) == ((8, 16), state.clock)
    cold, _ = ltx2_step(harness, ltx2_model(harness), opened, 1)
    assert same(cold, ltx2_step(harness, model, state, 1)[0])


def test_edits_keep_the_sound_of_the_window(harness: NodeHarness, three: tuple[Any, Any]) -> None:
    model, state = three
    assert torch.equal(state.context.sound, state.last_chunk.sound)
    plain, _ = ltx2_step(harness, model, state, 1)
    (rewound,) = harness.run("AdaStateRewind", plain, 2)
    assert same(ltx2_step(harness, model, rewound, 1)[0], plain)
    edits = [
        harness.run("AdaStateReset", state, "anchor"),
        harness.run("AdaStateReset", state, "window"),
        harness.run("AdaStateReset", state, "window", clip(3, None)),
        harness.run("AdaStateBlend", state, plain, 0.5),
    ]
    for (edited,) in edits:
        after, _ = ltx2_step(harness, model, edited, 1)
        assert torch.isfinite(after.last_chunk.sound).all()
        assert after.last_chunk.sound.shape[2] == plain.last_chunk.sound.shape[2]
        assert not torch.equal(after.last_chunk.sound, plain.last_chunk.sound)
        assert same(after, ltx2_step(harness, ltx2_model(harness), edited, 1)[0])


@pytest.mark.parametrize(("frames", "ticks"), [(1, 1), (1, None), (4, 26), (7, 51), (7, None)])
def test_a_clip_is_continued(harness: NodeHarness, frames: int, ticks: int | None) -> None:
    model, text = ltx2_model(harness), ltx2_text(0, frame_rate=24.0)
    begun, _ = ltx2_step(
        harness, model, fresh(harness, start=clip(frames, ticks)), 2, positive=text
    )
    plain, _ = ltx2_step(harness, model, fresh(harness), 2, positive=text)
    assert begun.chunks[0].frame == frames
    assert not torch.equal(begun.content(), plain.content())
    assert begun.chunks[0].sound.shape[2] == begun.clock.ticks_of(frames, 3)
    if ticks is not None:
        assert begun.events[0].sound.shape[2] == begun.clock.ticks_of(0, frames)


def test_a_clip_without_sound_counts_as_the_mean_of_all_sounds(harness: NodeHarness) -> None:
    model = ltx2_model(harness)
    silent, given = clip(4, None), clip(4, None)
    given = nested(given["samples"], torch.zeros((1, 8, 25, 16)))
    mute, _ = ltx2_step(harness, model, fresh(harness, start=silent), 2)
    zeros, _ = ltx2_step(harness, model, fresh(harness, start=given), 2)
    assert same(mute, zeros)
    heard, _ = ltx2_step(harness, model, fresh(harness, start=clip(4, 25)), 2)
    assert not same(mute, heard)


@pytest.mark.parametrize(
    "options",
    [
        {"cache_precision": "fp8"},
        {"cache_place": "system memory"},
        {"positions": "absolute"},
        {"content_sees_current_state": False},
        {"anchor_strength": 2.0},
        {"chunk_frames": 2},
    ],
)
def test_other_options(
    harness: NodeHarness, three: tuple[Any, Any], options: dict[str, Any]
) -> None:
    model = ltx2_model(harness, **options)
    state, _ = ltx2_step(harness, model, fresh(harness), 3)
    assert torch.isfinite(state.content()).all()
    assert torch.isfinite(state.sound()).all()
    if "cache_place" in options:
        assert same(state, three[1])
    elif "chunk_frames" not in options:
        assert not same(state, three[1])
    cold, _ = ltx2_step(harness, ltx2_model(harness, **options), state, 1)
    assert same(cold, ltx2_step(harness, model, state, 1)[0])


@pytest.mark.parametrize("anchor", ["frozen", "none", "ema", "rolling", "dual_ema"])
def test_other_anchors(harness: NodeHarness, anchor: str) -> None:
    sizes = {"window_frames": 3, "anchor_frames": 4}
    model = ltx2_model(harness, anchor, **sizes)
    state, _ = ltx2_step(harness, model, fresh(harness), 4)
    assert torch.isfinite(state.content()).all()
    assert torch.isfinite(state.sound()).all()
    cold, _ = ltx2_step(harness, ltx2_model(harness, anchor, **sizes), state, 1)
    assert same(cold, ltx2_step(harness, model, state, 1)[0])


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
    assert f"leaves out parts of the model ({part})" in words


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


def test_a_compiled_model_streams_the_same(harness: NodeHarness, three: tuple[Any, Any]) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = ltx2_model(harness).clone()
    set_torch_compile_wrapper(model=model, backend="eager")
    state, _ = ltx2_step(harness, model, fresh(harness), 3)
    for plain, compiled in zip(both(three[1]), both(state), strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


def test_a_file_without_its_header_is_refused(
    node_classes: dict[str, Any], tiny_models: Any, base_dir: Any, core: Any
) -> None:
    from safetensors.torch import load_file, save_file

    models = base_dir / "models" / "diffusion_models"
    weights = load_file(models / LTX2)
    from tests.support.tiny_ltx2 import LTX2_CONFIG

    places = ("causal_temporal_positioning", "use_middle_indices_grid")
    bare = {name: value for name, value in LTX2_CONFIG.items() if name not in places}
    import json

    header = {"config": json.dumps({"transformer": bare})}
    save_file(weights, models / "tiny_ltx2_bare.safetensors", header)
    with pytest.raises(core.AdaStateError, match="its file lacks the header that says where"):
        NodeHarness(node_classes, "tiny_ltx2_bare.safetensors")
