"""LTX-2 through the nodes: streams with sound and without, and their edits."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, pool_of
from tests.support.marked_ltx2 import ltx2_harness
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
from tests.support.tiny_models import LTX2, LTX2_INTERLEAVED, LTX23, LTX25


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


@pytest.mark.newest
@pytest.mark.parametrize("file", [LTX2, LTX2_INTERLEAVED, LTX23, LTX25])
@pytest.mark.parametrize("sound", [True, False])
def test_a_stream_at_constant_memory(
    node_classes: dict[str, Any], tiny_models: Any, file: str, sound: bool
) -> None:
    harness = ltx2_harness(node_classes, file)
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


def test_the_panel_says_what_stands_in_for_a_missing_sound(harness: NodeHarness, pack: Any) -> None:
    import comfy.samplers

    module = importlib.import_module(f"{pack.__name__}.adastate_comfy.sampling.stream_run")

    def note(state: Any) -> str:
        sampler = comfy.samplers.sampler_object("euler")
        sigmas = torch.tensor([1.0, 0.0])
        inputs = module.StreamInputs(
            ltx2_model(harness), state, ltx2_text(0), 1.0, sampler, sigmas, 3, 1
        )
        return module.StreamRun.prepare(inputs).view.note

    silent = fresh(harness, start=clip(4, None))
    assert note(silent) == "the clip has no sound: an average one stands in"
    assert note(fresh(harness, start=clip(4, 25))) == note(fresh(harness)) == ""
    assert note(fresh(harness, start=clip(4, None), sound=False)) == ""
    after, _ = ltx2_step(harness, ltx2_model(harness), silent, 1)
    assert note(after) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"cache_precision": "fp8"},
        {"cache_place": "system memory"},
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


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "absolute"},
        {"content_sees_current_state": False},
        {"reencode_sees_prev_state": False},
    ],
)
def test_options_that_presets_set(
    harness: NodeHarness, three: tuple[Any, Any], changes: dict[str, Any]
) -> None:
    def altered() -> Any:
        model = ltx2_model(harness, "none" if "positions" in changes else "adaptive")
        binding = model.get_attachment("adastate")
        binding.config = dataclasses.replace(binding.config, **changes)
        return model

    model = altered()
    state, _ = ltx2_step(harness, model, fresh(harness), 3)
    assert not same(state, three[1])
    assert torch.isfinite(state.sound()).all()
    cold, _ = ltx2_step(harness, altered(), state, 1)
    assert same(cold, ltx2_step(harness, model, state, 1)[0])


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("options", [{}, {"cache_precision": "fp8"}, {"window_frames": 0}])
def test_the_plan_is_what_is_taken(
    harness: NodeHarness, pack: Any, options: dict[str, Any], sound: bool
) -> None:
    model = ltx2_model(harness, **options)
    ltx2_step(harness, model, fresh(harness, sound=sound), 4)
    planned = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).pool_patcher_of(model)
    # The pool keeps two points of a stream.
    assert planned.starts_with == pytest.approx(pool_of(model).nbytes / 2, rel=0.05)


@pytest.mark.parametrize("anchor", ["frozen", "none", "ema", "rolling", "dual_ema"])
def test_other_anchors(harness: NodeHarness, anchor: str) -> None:
    sizes = {"window_frames": 3, "anchor_frames": 4}
    model = ltx2_model(harness, anchor, **sizes)
    state, _ = ltx2_step(harness, model, fresh(harness), 4)
    assert torch.isfinite(state.content()).all()
    assert torch.isfinite(state.sound()).all()
    cold, _ = ltx2_step(harness, ltx2_model(harness, anchor, **sizes), state, 1)
    assert same(cold, ltx2_step(harness, model, state, 1)[0])


def test_the_preset_of_omniforcing(harness: NodeHarness) -> None:
    """Its memory of 16 frames, each at its place in the video, and its steps."""
    import comfy.samplers

    changes = {
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor([1.0, 0.909, 0.725, 0.421, 0.0]),
        "positive": ltx2_text(0, frame_rate=24.0),
    }
    model = ltx2_model(harness, preset="omniforcing")
    state, _ = ltx2_step(harness, model, fresh(harness), 7, **changes)
    assert [chunk.sound.shape[2] for chunk in state.chunks] == [18, *[25] * 6]
    assert state.context.window.shape[2] == model.get_attachment("adastate").config.window_frames
    assert torch.isfinite(state.sound()).all()
    cold = ltx2_model(harness, preset="omniforcing")
    after = [ltx2_step(harness, each, state, 1, **changes)[0] for each in (cold, model)]
    assert same(*after)
