"""Streams with sound through the nodes: steps, edits, files, beginnings and plans."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import NodeHarness, pool_of
from tests.support.quantised import OLD_SCALED_FP8, quantise
from tests.support.sound_streams import (
    HEIGHT,
    WIDTH,
    empty_minimax,
    has_minimax,
    minimax_model,
    minimax_step,
    minimax_text,
    nested,
)
from tests.support.tiny_models import MINIMAX_H3

pytestmark = pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, MINIMAX_H3)


@pytest.fixture(scope="module")
def three(harness: NodeHarness) -> tuple[Any, Any]:
    """Return a model and a stream of three chunks."""
    model = minimax_model(harness)
    return model, minimax_step(harness, model, fresh(harness), 3)[0]


def fresh(harness: NodeHarness, **options: Any) -> Any:
    start = options.pop("start", None)
    more = {} if start is None else {"start_latent": start}
    return harness.run("AdaStateNewStream", empty_minimax(**options), 0, **more)[0]


def clip(frames: int, ticks: int | None, seed: int = 1) -> dict[str, Any]:
    source = torch.Generator().manual_seed(seed)
    video = torch.randn((1, 24, frames, HEIGHT, WIDTH), generator=source)
    if ticks is None:
        return {"samples": video}
    return nested(video, torch.randn((1, 32, 2, ticks), generator=source))


def both(state: Any) -> tuple[Tensor, Tensor]:
    return state.newest_content(), state.last_chunk.sound


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(both(a), both(b), strict=True))


def test_eulers_sound_moves_along_its_own_schedule(
    harness: NodeHarness, core: Any, pack: Any
) -> None:
    """Four steps against Euler written out, the sound at noise levels of its own."""
    from comfy.ldm.minimax import model as h3

    # Versions that scale the sound within the model say how it moves, without a slope.
    slope = getattr(h3, "time_shift_slope", lambda *_: 1.0)
    parts = ("attention.chunk_attention", "attention.kv_cache", "rollout.noise", "anchors")
    attention, cache, noise, anchors = (
        importlib.import_module(f"{core.__name__}.{name}") for name in parts
    )
    binding, keys, wrappers = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.model.{name}")
        for name in ("binding", "keys", "wrappers")
    )
    import comfy.samplers

    model, dit = minimax_model(harness), harness.model.get_model_object("diffusion_model")
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 4)
    state, _ = minimax_step(harness, model, fresh(harness), 1, sigmas=sigmas)
    bound = binding.bound_model(model)
    geometry = bound.traits.geometry(HEIGHT, WIDTH, sound=True)
    given = (bound.config, anchors.policy_for(bound.config), {0: cache.KVCache.empty()}, geometry)
    options = {
        keys.VIEW: attention.ChunkAttention(*given),
        "cond_or_uncond": [0],
        "wrappers": {"diffusion_model": {"adastate": [wrappers.extend_attention]}},
    }
    drawn = noise.BlockNoise(3, 0, (1, 24, 6, HEIGHT, WIDTH), 1, (1, 32, 29, 2)).initial()
    video, sound = drawn.video, drawn.sound.transpose(2, 3)
    text = dit.preprocess_text_embeds(minimax_text(0)[0][0])
    with torch.inference_mode():
        for sigma, following in pairwise(sigmas.double()):
            level = torch.tensor([1000.0 * float(sigma)])
            to_video, to_sound = dit([video, sound], level, text, transformer_options=options)
            of_sound = [h3.time_shift_sigma(at, 12.0, 3.0) for at in (sigma, following)]
            video = video + to_video * (following - sigma)
            to_sound = to_sound / slope(sigma, 12.0, 3.0)
            sound = sound + to_sound * (of_sound[1] - of_sound[0])
    content, heard = both(state)
    torch.testing.assert_close(content, video[:, :, 1:].float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(heard, sound.transpose(2, 3).float(), atol=1e-4, rtol=1e-4)


def test_sound_that_samplers_have_larger_is_recorded_as_its_vae_has_it(pack: Any) -> None:
    """As in ComfyUI versions that bring the sound onto the schedule of the video."""
    packing, block, families = (
        importlib.import_module(f"{pack.__name__}.{name}")
        for name in (
            "adastate_comfy.sampling.packing",
            "adastate_core.rollout.latent_block",
            "adastate_core.families.minimax",
        )
    )
    sampling = type("ModelSamplingAV", (), {"audio_scale": 4.0})()
    ours = packing.BlockPacking.of(families.MiniMaxH3Family.sound, sampling)
    source = torch.Generator().manual_seed(0)
    video = torch.randn((1, 24, 6, 2, 2), generator=source)
    given = block.LatentBlock(video, torch.randn((1, 32, 29, 2), generator=source))
    pictures = video.numel()
    latents, noise = ours.pack(given)[0, 0], ours.pack_noise(given)[0, 0]
    assert torch.equal(latents[:pictures], noise[:pictures])
    assert torch.equal(latents[pictures:], 4.0 * noise[pictures:])
    assert torch.equal(ours.one_schedule.pack(given), ours.pack_noise(given))
    back = ours.unpack(ours.pack(given), given)
    assert torch.equal(back.video, video)
    assert torch.equal(back.sound, given.sound)
    assert packing.BlockPacking.of(families.MiniMaxH3Family.sound, object()).scale == 1.0


def test_a_state_with_sound_survives_a_file(
    harness: NodeHarness, three: tuple[Any, Any], core: Any, tmp_path: Any
) -> None:
    files = importlib.import_module(f"{core.__name__}.files.state_file")
    model, state = three
    path = tmp_path / "sound.adastate.safetensors"
    files.save_state(state, path)
    opened = files.load_state(path)
    assert opened.sound_shape == (32, 2)
    assert opened.clock == state.clock
    assert torch.equal(opened.sound(), state.sound())
    (cold,) = (minimax_model(harness),)
    assert same(
        minimax_step(harness, cold, opened, 1)[0], minimax_step(harness, model, state, 1)[0]
    )
    with pytest.raises(core.AdaStateError):
        files.load_state(_damaged(path, tmp_path))


def _damaged(path: Any, folder: Any) -> Any:
    """Write a state whose sound has another number of channels than it says."""
    target = folder / "damaged.adastate.safetensors"
    data = path.read_bytes().replace(b'sound_shape\\": [32, 2]', b'sound_shape\\": [16, 2]', 1)
    assert data != path.read_bytes()
    target.write_bytes(data)
    return target


def test_edits_keep_the_sound_of_the_window(harness: NodeHarness, three: tuple[Any, Any]) -> None:
    model, state = three
    window = state.context
    assert window.window.shape[2] == 5
    assert torch.equal(window.sound, state.last_chunk.sound)
    plain, _ = minimax_step(harness, model, state, 1)
    (rewound,) = harness.run("AdaStateRewind", plain, 2)
    assert same(minimax_step(harness, model, rewound, 1)[0], plain)
    (held,) = harness.run("AdaStateHold", state, 1)
    (anchor,) = harness.run("AdaStateReset", state, "anchor")
    (silent,) = harness.run("AdaStateReset", state, "window")
    (blended,) = harness.run("AdaStateBlend", state, plain, 0.5)
    outcomes = [minimax_step(harness, model, s, 1)[0] for s in (held, anchor, silent, blended)]
    for after in outcomes[1:]:
        assert torch.isfinite(after.last_chunk.sound).all()
        assert after.last_chunk.sound.shape[2] == plain.last_chunk.sound.shape[2]
        assert not torch.equal(after.last_chunk.sound, plain.last_chunk.sound)
    assert blended.context.sound.shape[2] == state.clock.ticks_of(10, 5)
    assert silent.context.sound is None


@pytest.mark.parametrize(("frames", "ticks"), [(1, None), (7, 36), (5, 29), (12, 65)])
def test_a_clip_with_its_sound_is_continued(
    harness: NodeHarness, frames: int, ticks: int | None
) -> None:
    model = minimax_model(harness)
    begun, _ = minimax_step(harness, model, fresh(harness, start=clip(frames, ticks)), 2)
    other, _ = minimax_step(harness, model, fresh(harness, start=clip(frames, ticks, seed=2)), 2)
    plain, _ = minimax_step(harness, model, fresh(harness), 2)
    assert not torch.equal(begun.content(), other.content())
    assert not torch.equal(begun.content(), plain.content())
    start = begun.events[0]
    assert start.content.shape[2] == {1: 1, 7: 5, 5: 5, 12: 10}[frames]
    assert begun.chunks[0].frame == {1: 5, 7: 5, 5: 5, 12: 10}[frames]
    if ticks is not None:
        assert start.sound.shape[2] == begun.clock.ticks_of(0, start.content.shape[2])
        mute, _ = minimax_step(harness, model, fresh(harness, start=clip(frames, None)), 2)
        assert not torch.equal(begun.content(), mute.content())


def test_a_stream_without_sound(harness: NodeHarness) -> None:
    model = minimax_model(harness)
    state, latent = minimax_step(harness, model, fresh(harness, sound=False), 3)
    assert latent["samples"].shape == (1, 24, 15, HEIGHT, WIDTH)
    assert state.sound() is None
    assert torch.isfinite(state.content()).all()


@pytest.mark.parametrize(
    "options",
    [{"cache_precision": "fp8"}, {"cache_place": "system memory"}, {"chunk_frames": 15}],
)
def test_other_forms_of_the_cache(harness: NodeHarness, options: dict[str, Any]) -> None:
    plain, _ = minimax_step(harness, minimax_model(harness), fresh(harness), 2)
    model = minimax_model(harness, **options)
    state, _ = minimax_step(harness, model, fresh(harness), 2)
    if "cache_place" in options:
        assert same(state, plain)
    cold, _ = minimax_step(harness, minimax_model(harness, **options), state, 1)
    assert same(cold, minimax_step(harness, model, state, 1)[0])


@pytest.mark.parametrize("anchor", ["frozen", "none", "ema", "rolling"])
def test_other_anchors(harness: NodeHarness, anchor: str) -> None:
    model = minimax_model(harness, anchor, window_frames=5, anchor_frames=10)
    state, _ = minimax_step(harness, model, fresh(harness), 5)
    assert torch.isfinite(state.content()).all()
    cold = minimax_model(harness, anchor, window_frames=5, anchor_frames=10)
    assert same(minimax_step(harness, cold, state, 1)[0], minimax_step(harness, model, state, 1)[0])


def test_guidance_has_a_memory_of_its_own(harness: NodeHarness, three: tuple[Any, Any]) -> None:
    model, state = three
    guided, _ = minimax_step(harness, model, state, 1, cfg=3.0, negative=minimax_text(9, words=4))
    assert not same(guided, minimax_step(harness, model, state, 1)[0])


def test_what_is_read_of_a_stream_has_its_sound(
    harness: NodeHarness, three: tuple[Any, Any]
) -> None:
    _, state = three
    hidden, window, content, *_ = harness.run("AdaStateRead", state)
    assert hidden["samples"].shape == (1, 24, 1, HEIGHT, WIDTH)
    assert [tuple(x.shape) for x in window["samples"].unbind()] == [
        (1, 24, 5, HEIGHT, WIDTH),
        (1, 32, 2, 28),
    ]
    assert content["samples"].unbind()[1].shape == (1, 32, 2, 85)


def test_a_prompt_of_another_length_keeps_the_memory(
    harness: NodeHarness, three: tuple[Any, Any]
) -> None:
    """Text ends before the chunk whatever its length, so what is remembered stays where it is."""
    model, state = three
    short, _ = minimax_step(harness, model, state, 1, positive=minimax_text(5, words=3))
    longer = minimax_text(5, words=3)
    longer[0][0] = torch.cat((longer[0][0], longer[0][0]), dim=1)
    after, _ = minimax_step(harness, model, state, 1, positive=longer)
    assert not same(short, after)
    assert torch.isfinite(after.content()).all()


@pytest.mark.parametrize("options", [{}, {"cache_precision": "fp8"}])
def test_the_plan_is_what_is_taken(
    harness: NodeHarness, pack: Any, options: dict[str, Any]
) -> None:
    model = minimax_model(harness, **options)
    minimax_step(harness, model, fresh(harness), 4)
    planned = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).pool_patcher_of(model)
    # Of 29 latents of sound at most; a chunk has 28 in two of three.
    assert planned.starts_with == pytest.approx(pool_of(model).nbytes / 2, rel=0.03)


@pytest.mark.parametrize(
    ("card", "options", "proposed"),
    [
        (200, {}, ""),
        (24, {}, "set cache_precision to fp8 on Apply AdaState, which needs 2"),
        (24, {"cache_precision": "fp8", "window_frames": 10}, "cache_place to system memory"),
        (45, {"window_frames": 15}, "set cache_precision to fp8 on Apply AdaState, which needs 4"),
        (42, {"window_frames": 15}, "set cache_place to system memory on Apply AdaState"),
    ],
)
def test_a_plan_of_the_published_size_proposes_what_fits(
    harness: NodeHarness,
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
    card: int,
    options: dict[str, Any],
    proposed: str,
) -> None:
    """50 layers of 56 heads at 768 x 1344: 1.45 GB a latent frame in 16 bits."""
    import comfy.model_management

    parts = ("model.binding", "sampling.memory_plan")
    binding, plan = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.{name}") for name in parts
    )
    block = importlib.import_module(f"{pack.__name__}.adastate_core.rollout.latent_block")
    bare = harness.bare.clone()
    bare.set_model_compute_dtype(torch.bfloat16)
    sizes = {"chunk_frames": 5, "window_frames": 5, "state_frames": 1, "anchor_frames": 5}
    (model,) = harness.run("AdaStateApply", bare, "adaptive", **{**sizes, **options})
    bound = binding.bound_model(model)
    published = replace(bound.traits, layers=50, width=7168, heads=56)
    # A card, whose memory is not the system's.
    monkeypatch.setattr(model, "load_device", torch.device("cuda", 0))
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: card * 2**30)
    made = plan.plan_memory(
        [replace(bound, traits=published)],
        block.LatentBlock(
            torch.zeros(()).expand(1, 24, 6, 48, 84), torch.zeros(()).expand(1, 32, 29, 2)
        ),
        guided=False,
        chunks=10,
        together=10,
        first=True,
    )
    frames = options.get("window_frames", 5) + 1
    if "cache_precision" not in options:
        assert made.one_cache_bytes == pytest.approx(1.45e9 * frames, rel=0.02)
    assert proposed in made.proposal
    assert bool(made.proposal) == bool(proposed)


@pytest.mark.parametrize("form", ["float8_e4m3fn", OLD_SCALED_FP8, "nvfp4"])
def test_quantised_weights(
    node_classes: dict[str, Any], tiny_models: Any, base_dir: Any, form: str
) -> None:
    from safetensors.torch import load_file, save_file

    models = base_dir / "models" / "diffusion_models"
    name = f"tiny_minimax_h3_{form}.safetensors"
    save_file(quantise(load_file(models / MINIMAX_H3), form), models / name)
    harness = NodeHarness(node_classes, name)
    state, _ = minimax_step(harness, minimax_model(harness), fresh(harness), 2)
    plain = NodeHarness(node_classes, MINIMAX_H3)
    other, _ = minimax_step(plain, minimax_model(plain), fresh(plain), 2)
    difference = (state.content() - other.content()).abs().mean() / other.content().std()
    assert 0 < difference < 0.5  # rounded, and still the same model
