"""Streaming ComfyUI's real Wan class through the real nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning, pool_of, same_rng
from tests.support.tiny_models import WAN_CAUSAL, WAN_LARGER


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


def content(state: Any) -> torch.Tensor:
    return state.content()


def test_chunks_with_the_cache_equal_one_block_causal_forward(
    harness: NodeHarness, core: Any, pack: Any
) -> None:
    """A masked forward of the stock class is the reference; the bridge runs chunk by chunk."""
    import importlib

    binding, keys, wrappers = (
        importlib.import_module(f"{pack.__name__}.adastate_comfy.model.{name}")
        for name in ("binding", "keys", "wrappers")
    )
    anchors = importlib.import_module(f"{core.__name__}.anchors")
    attention = importlib.import_module(f"{core.__name__}.attention.commit_attention")
    cache = importlib.import_module(f"{core.__name__}.attention.kv_cache")
    dit = harness.model.get_model_object("diffusion_model")
    tokens, frames = 6, 6
    x = torch.randn((1, 16, frames, 4, 6), generator=torch.Generator().manual_seed(3))
    text, t = conditioning(0)[0][0], torch.tensor([250.0])
    chunk_of = torch.arange(frames).repeat_interleave(tokens) // 2
    mask = (chunk_of[:, None] >= chunk_of[None, :]).float().log()

    def causal(func: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        if q.shape == k.shape:
            kwargs["mask"] = mask
        return func(q, k, v, *args, **kwargs)

    with torch.inference_mode():
        free = dit(x, t, text, transformer_options={})
        expected = dit(x, t, text, transformer_options={"optimized_attention_override": causal})
        assert (free - expected).abs().max() > 1e-3  # the mask matters, so the test can fail
        config = core.StreamConfig(anchor="none", chunk_frames=2, window_frames=4)
        shape = binding.bound_model(harness.model).traits.geometry(4, 6)
        past = {0: cache.KVCache.empty()}
        for start in (0, 2, 4):
            view = attention.CommitAttention(config, anchors.policy_for(config), past, shape)
            options = {
                keys.VIEW: view,
                "cond_or_uncond": [0],
                "wrappers": {"diffusion_model": {"adastate": [wrappers.extend_attention]}},
            }
            out = dit(x[:, :, start : start + 2], t, text, transformer_options=options)
            past = view.committed()
            torch.testing.assert_close(out, expected[:, :, start : start + 2], atol=1e-5, rtol=0)


def test_loop_and_chain_are_bit_identical(harness: NodeHarness) -> None:
    together, latent = harness.step(harness.fresh(), 4, seed=5)
    chained, parts = harness.fresh(), []
    for _ in range(4):
        chained, part = harness.step(chained, seed=5)
        parts.append(part["samples"])
    assert torch.equal(content(together), content(chained))
    assert torch.equal(latent["samples"], torch.cat(parts, dim=2))


def test_the_output_is_content_only(harness: NodeHarness) -> None:
    state, latent = harness.step(harness.fresh(), 3)
    assert latent["samples"].shape == (1, 16, 9, 4, 6)
    form = harness.model.get_model_object("latent_format")
    shown = form.process_in(latent["samples"])
    torch.testing.assert_close(shown, content(state), atol=1e-5, rtol=0)
    for chunk in state.chunks:
        for frame in shown.unbind(2):
            assert not torch.allclose(frame, chunk.state[:, :, 0], atol=1e-3)


def test_the_sampled_block_is_state_and_content(harness: NodeHarness) -> None:
    import comfy.patcher_extension

    shapes = []

    def spy(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(x.shape))
        return executor(x, *args, **kwargs)

    model = harness.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "spy", spy)
    _, latent = harness.step(harness.fresh(), 2, model=model, seed=99)
    # two chunks of two steps, and one commit pass between them
    assert shapes == [(1, 16, 4, 4, 6)] * 5
    assert latent["samples"].shape[2] == 6


@pytest.mark.parametrize("sampler", ["lcm", "euler_ancestral"])
def test_content_draws_do_not_depend_on_the_state(harness: NodeHarness, sampler: str) -> None:
    """With content blind to everything else, the state may only differ in its own noise."""
    import comfy.patcher_extension

    def inputs(model: Any, frames: int) -> list[torch.Tensor]:
        seen = []

        def zero(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(x[:, :, -frames:].clone())
            return torch.zeros_like(x)

        model = model.clone()
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        model.add_wrapper_with_key(kind, "zero", zero)
        harness.step(harness.fresh(), 1, model=model, seed=3, sampler=sampler)
        return seen

    (without,) = harness.run("AdaStateApply", harness.bare, "none", 3, 3, 1, 3)
    with_state, stateless = inputs(harness.model, 3), inputs(without, 3)
    assert len(with_state) == len(stateless) == 2
    for a, b in zip(with_state, stateless, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("sampler", ["euler", "ddim", "heunpp2", "dpmpp_2m", "uni_pc"])
def test_stock_samplers_run_and_leave_the_global_rng_alone(
    harness: NodeHarness, sampler: str
) -> None:
    first, _ = harness.step(harness.fresh(), 2, sampler=sampler, seed=1)
    torch.manual_seed(123)  # another global state must not matter
    again, _ = harness.step(harness.fresh(), 2, sampler=sampler, seed=1)
    assert torch.equal(content(first), content(again))
    assert torch.isfinite(content(first)).all()


def test_rerolling_the_last_chunk_replays_nothing(harness: NodeHarness) -> None:
    import comfy.patcher_extension

    calls = []

    def count(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(float(t[0]))
        return executor(x, t, *args, **kwargs)

    model = harness.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "count", count)
    state = harness.fresh()
    for _ in range(20):
        before = state
        state, _ = harness.step(state, model=model)
    calls.clear()
    harness.step(before, model=model, seed=77)
    assert calls == [1000.0, 600.0]


def test_a_cold_replay_is_bit_identical(harness: NodeHarness) -> None:
    state, _ = harness.step(harness.fresh(), 4)
    warm, _ = harness.step(state, 2, prompt=1)
    (other,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    cold, _ = harness.step(state, 2, prompt=1, model=other)
    assert torch.equal(content(warm), content(cold))
    assert not any(chunk.approximate for chunk in cold.chunks)


def test_unloading_all_models_frees_the_pool(harness: NodeHarness) -> None:
    import comfy.model_management

    state, _ = harness.step(harness.fresh(), 3)
    plain, _ = harness.step(state, seed=1)
    assert pool_of(harness.model).nbytes > 0
    comfy.model_management.unload_all_models()
    assert pool_of(harness.model).nbytes == 0
    after, _ = harness.step(state, seed=1)
    assert torch.equal(content(plain), content(after))


def test_a_failed_run_keeps_the_input_state_and_its_cache(harness: NodeHarness) -> None:
    import comfy.patcher_extension

    pool = pool_of(harness.model)
    calls = []

    def break_later(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 7:
            raise RuntimeError("on purpose")
        return executor(*args, **kwargs)

    model = harness.model.clone()
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(kind, "break", break_later)
    state, _ = harness.step(harness.fresh(), 2)
    pool.clear()
    expected, _ = harness.step(state, seed=2, model=model)
    calls.clear()
    size = pool.nbytes
    with pytest.raises(RuntimeError, match="on purpose"):
        harness.step(state, 4, model=model)
    assert pool.nbytes <= size
    assert len(state.chunks) == 2
    calls.clear()
    again, _ = harness.step(state, seed=2, model=model)
    assert len(calls) == 2  # the cache that the state needs is still there
    assert torch.equal(content(again), content(expected))


def test_cancelling_keeps_the_input_state(harness: NodeHarness) -> None:
    import comfy.model_management
    import comfy.patcher_extension

    state, _ = harness.step(harness.fresh(), 2)
    calls = []

    def cancel(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    model = harness.model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "c", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        harness.step(state, 4, model=model)
    assert len(calls) == 2  # it stopped at that very step
    assert harness.step(state)[0].chunk_index == 3


def test_the_model_in_a_stock_sampler_is_untouched(harness: NodeHarness) -> None:
    import comfy.sample
    import comfy.samplers

    def sample(model: Any) -> torch.Tensor:
        noise = torch.randn((1, 16, 3, 4, 6), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return comfy.sample.sample_custom(
                model,
                noise,
                1.0,
                comfy.samplers.sampler_object("euler"),
                torch.tensor([1.0, 0.5, 0.0]),
                conditioning(0),
                conditioning(1),
                torch.zeros_like(noise),
                seed=0,
            )

    expected = sample(harness.bare)
    assert torch.equal(sample(harness.model), expected)
    harness.step(harness.fresh(), 2)
    assert torch.equal(sample(harness.model), expected)


def test_another_packs_attention_override_still_runs(harness: NodeHarness) -> None:
    calls = []

    def theirs(func: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return func(*args, **kwargs)

    model = harness.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = theirs
    plain, _ = harness.step(harness.fresh(), 2)
    chained, _ = harness.step(harness.fresh(), 2, model=model, seed=0)
    # four forwards and a commit, since keys depend on it, x three layers x (self, cross)
    assert len(calls) == 5 * 3 * 2
    assert torch.equal(content(plain), content(chained))


def test_guidance_keeps_two_caches_and_equals_its_replay(harness: NodeHarness) -> None:
    options = {"cfg": 3.0, "negative": 9}
    together, _ = harness.step(harness.fresh(), 3, **options)
    plain, _ = harness.step(harness.fresh(), 3)
    assert not torch.equal(content(together), content(plain))
    chained = harness.fresh()
    for _ in range(3):
        chained, _ = harness.step(chained, **options)
    torch.testing.assert_close(content(together), content(chained), atol=1e-5, rtol=0)


def test_cfg_plus_plus_samplers_keep_both_caches_at_cfg_one(harness: NodeHarness) -> None:
    options = {"sampler": "euler_cfg_pp", "negative": 9}
    together, _ = harness.step(harness.fresh(), 3, **options)
    other, _ = harness.step(harness.fresh(), 3, sampler="euler_cfg_pp", negative=8)
    assert not torch.equal(content(together), content(other))
    (cold,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    first, _ = harness.step(harness.fresh(), 1, model=cold, **options)
    pool_of(cold).clear()
    rest, _ = harness.step(first, 2, model=cold, **options)
    torch.testing.assert_close(content(together), content(rest), atol=1e-5, rtol=0)


def test_core_causal_checkpoints_stream_with_their_shift(
    node_classes: dict[str, Any], tiny_models: Any
) -> None:
    harness = NodeHarness(node_classes, WAN_CAUSAL)
    assert harness.model.get_model_object("model_sampling").shift == 5.0
    state, _ = harness.step(harness.fresh(), 2)
    assert state.chunk_index == 2


def test_consistency_schedule_of_the_distilled_template(
    node_classes: dict[str, Any], tiny_models: Any
) -> None:
    import comfy.samplers

    harness = NodeHarness(node_classes, WAN_CAUSAL)
    sampling = harness.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 4)
    expected = torch.tensor([1.0, 0.9375, 0.8333, 0.625, 0.0])
    torch.testing.assert_close(sigmas, expected, atol=1e-3, rtol=0)


def test_state_survives_a_file(harness: NodeHarness, base_dir: Any) -> None:
    state, _ = harness.step(harness.fresh(), 2)
    expected, _ = harness.step(state, 2, prompt=1)
    (path,) = harness.run("AdaStateSave", state, "adastate/test")
    name = f"adastate/{path.rsplit('/', 1)[-1]} [output]"
    (loaded,) = harness.run("AdaStateLoad", name)
    (other,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    continued, _ = harness.step(loaded, 2, prompt=1, model=other)
    assert torch.equal(content(expected), content(continued))


def test_hold_reset_and_read(harness: NodeHarness) -> None:
    state, _ = harness.step(harness.fresh(), 2)
    plain, _ = harness.step(state, 2)
    (held,) = harness.run("AdaStateHold", state, -1)
    (forgot,) = harness.run("AdaStateReset", state, "anchor")
    for other in (held, forgot):
        changed, _ = harness.step(other, 2)
        assert not torch.equal(content(plain), content(changed))
    hidden, window, everything, index, report, each = harness.run("AdaStateRead", plain)
    assert each["samples"].shape == (4, 16, 1, 4, 6)
    assert torch.equal(each["samples"][-1:], hidden["samples"])
    assert hidden["samples"].shape == (1, 16, 1, 4, 6)
    assert window["samples"].shape == (1, 16, 3, 4, 6)
    assert everything["samples"].shape == (1, 16, 12, 4, 6)
    assert index == 4
    assert '"chunk": 3' in report


def test_reset_all_begins_again(harness: NodeHarness) -> None:
    """After a full reset the next chunk depends on the past only through its number."""
    state, _ = harness.step(harness.fresh(), 2)
    (a,) = harness.run("AdaStateReset", state, "all")
    other, _ = harness.step(harness.fresh(), 2, prompt=5)
    (b,) = harness.run("AdaStateReset", other, "all")
    first, _ = harness.step(a)
    second, _ = harness.step(b)
    assert torch.equal(first.newest_content(), second.newest_content())


def test_start_latents_are_continued(harness: NodeHarness) -> None:
    clip = {"samples": torch.randn((1, 16, 5, 4, 6), generator=torch.Generator().manual_seed(1))}
    started = harness.fresh(start_latent=clip)
    a, _ = harness.step(started)
    b, _ = harness.step(harness.fresh())
    assert not torch.equal(content(a), content(b))
    # Given before any model in VAE space, committed in model space; given later, the same.
    form = harness.model.get_model_object("latent_format")
    wanted = form.process_in(clip["samples"])
    assert torch.equal(a.events[0].content, wanted)
    assert not a.events[0].raw
    reset, _ = harness.step(harness.run("AdaStateReset", a, "all", clip)[0])
    assert torch.equal(reset.events[2].content, wanted)
    assert reset.chunk_index == 2
    early, _ = harness.step(harness.run("AdaStateReset", harness.fresh(), "all", clip)[0])
    assert torch.equal(early.events[0].content, wanted)


def test_reading_a_start_gives_back_what_was_given(harness: NodeHarness) -> None:
    clip = {"samples": torch.randn((1, 16, 2, 4, 6), generator=torch.Generator().manual_seed(1))}
    window = harness.run("AdaStateRead", harness.fresh(start_latent=clip))[1]
    assert torch.equal(window["samples"], clip["samples"])


@pytest.mark.parametrize("anchor", ["adaptive", "frozen", "none"])
@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("scope", ["anchor", "window", "all"])
def test_reset_with_a_picture_under_every_anchor(
    harness: NodeHarness, anchor: str, states: int, scope: str
) -> None:
    picture = {"samples": torch.randn((1, 16, 1, 4, 6), generator=torch.Generator().manual_seed(1))}
    (model,) = harness.run("AdaStateApply", harness.bare, anchor, 3, 3, states, 3)
    state, _ = harness.step(harness.fresh(), 2, model=model)
    after, _ = harness.step(harness.run("AdaStateReset", state, scope, picture)[0], model=model)
    assert after.chunk_index == 3


def test_nodes_do_not_touch_the_rng(harness: NodeHarness) -> None:
    with same_rng():
        harness.run("AdaStateReport", torch.rand((4, 8, 8, 3), generator=torch.Generator()))
