"""Every family on ComfyUI's real class: the same conformance for all of them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.families import CASES, HEIGHT, VIDEO, WIDTH, Case, fresh, step
from tests.support.harness import NodeHarness, pool_of

OTHER_PAIRING = {"interleaved": "half", "half": "interleaved"}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def harness(case: Case, node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, case.model if isinstance(case.model, str) else case.model())


def test_a_prompt_of_another_text_encoder_is_refused(
    harness: NodeHarness, case: Case, core: Any
) -> None:
    other = replace(case, text_width=case.text_width + 32)
    words = (
        f"This prompt comes from another text encoder than this model's: {other.text_width} "
        f"numbers a token, the model reads {case.text_width}. Load the text encoder that belongs "
        "to the model."
    )
    with pytest.raises(core.AdaStateError) as error:
        step(harness, case, fresh(harness, case), 1, positive=other.conditioning(0))
    assert str(error.value) == words
    negative = other.conditioning(1)
    with pytest.raises(core.AdaStateError, match="The negative prompt comes from another"):
        step(harness, case, fresh(harness, case), 1, negative=negative, cfg=2.0)
    # Without guidance it takes no part.
    step(harness, case, fresh(harness, case), 1, negative=negative)


class Direct:
    """Forwards of the host's model at one noise level, as its sampling calls it."""

    def __init__(self, harness: NodeHarness, case: Case, pack: Any) -> None:
        import comfy.model_management

        self.binding, self.wrappers, self.keys = (
            importlib.import_module(f"{pack.__name__}.adastate_comfy.model.{name}")
            for name in ("binding", "wrappers", "keys")
        )
        comfy.model_management.load_models_gpu([harness.model])
        self.model, self.case = harness.model.model, case
        self.sigma = self.model.model_sampling.percent_to_sigma(0.6)

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        text, extras = self.case.conditioning(0)[0]
        conds = self.model.extra_conds(
            cross_attn=text, noise=x, device=x.device, latent_image=x, **extras
        )
        named = {n: c.process_cond(batch_size=1, area=None).cond for n, c in conds.items()}
        schedule = {"sigmas": torch.tensor([self.sigma])}
        schedule["sample_sigmas"] = torch.tensor([self.sigma, 0.0])
        base = {"cond_or_uncond": [0], **schedule}
        sigma = torch.full((1,), float(self.sigma))
        return self.model.apply_model(x, sigma, transformer_options={**base, **options}, **named)

    def chunk(self, x: Tensor, view: Any) -> Tensor:
        wrappers = {
            "apply_model": {"adastate": [self.wrappers.prepare_forward]},
            "diffusion_model": {"adastate": [self.wrappers.extend_attention]},
        }
        return self(x, wrappers=wrappers, **{self.keys.VIEW: view})


def causal_mask(tokens: int, keys: int, chunk_of: Tensor, tracks: tuple[str, ...]) -> Tensor:
    """Block-causal over the video; text among the keys is seen by all and sees all."""
    video = chunk_of.repeat_interleave(tokens // len(chunk_of))
    mask = torch.zeros((keys, keys))
    at = slice(keys - tokens, None) if tracks[-1] == "video" else slice(0, tokens)
    mask[at, at] = (video[:, None] >= video[None, :]).float().log()
    return mask


def test_chunk_by_chunk_equals_one_block_causal_forward(
    harness: NodeHarness, case: Case, core: Any, pack: Any
) -> None:
    anchors, attention, cache = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in ("anchors", "attention.commit_attention", "attention.kv_cache")
    )
    direct = Direct(harness, case, pack)
    traits = direct.binding.bound_model(harness.model).traits
    shape = traits.geometry(HEIGHT, WIDTH)
    tokens = VIDEO * shape.tokens_per_frame
    tracks = shape.calls.tracked[0].keys
    x = torch.randn(
        (1, case.channels, VIDEO, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3)
    )
    chunk_of = torch.arange(VIDEO) // 2

    def causal(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
        axis = 2 if kwargs.get("skip_reshape") else 1
        if q.shape[axis] == k.shape[axis] >= tokens:
            kwargs["mask"] = causal_mask(tokens, k.shape[axis], chunk_of, tracks)
            if shape.first_index:  # a first frame between the others; streams have even steps
                heads = len(shape.rope.frequencies)
                even = (-shape.first_index, *[0] * 5)
                q, k = (
                    shape.rope.rotate(x.unflatten(-1, (heads, -1)), even).flatten(2) for x in (q, k)
                )
        return func(q, k, v, *args, **kwargs)

    with torch.inference_mode():
        free = direct(x)
        expected = direct(x, optimized_attention_override=causal)
        assert (free - expected).abs().max() > 1e-3  # the mask matters, so the test can fail
        # Growing positions are those of the one forward; text, if any, stands at a fixed one.
        config = core.StreamConfig(
            anchor="none", chunk_frames=2, window_frames=4, warmup_positions="grow"
        )
        past = {0: cache.KVCache.empty()}
        for start in (0, 2, 4):
            view = attention.CommitAttention(
                config, anchors.policy_for(config), past, shape, first_frame=start
            )
            out = direct.chunk(x[:, :, start : start + 2], view)
            past = view.committed()
            if shape.has_text and start < 4:
                continue  # there the text has seen later frames in the reference, so they differ
            wanted = expected[:, :, start : start + 2]
            torch.testing.assert_close(out, wanted, atol=case.tolerance, rtol=case.tolerance)


def test_places_in_time_do_not_depend_on_the_chunk(
    harness: NodeHarness, case: Case, core: Any, pack: Any
) -> None:
    """The same memory late in a stream: all the same, but where indices count its frames."""
    anchors, attention, cache, layout = (
        importlib.import_module(f"{core.__name__}.{name}")
        for name in ("anchors", "attention.commit_attention", "attention.kv_cache", "layout")
    )
    direct = Direct(harness, case, pack)
    shape = direct.binding.bound_model(harness.model).traits.geometry(HEIGHT, WIDTH)
    x = torch.randn(
        (1, case.channels, VIDEO, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(4)
    )

    def outcome(positions: str, seen: int) -> Tensor:
        config = core.StreamConfig(
            anchor="frozen", anchor_frames=2, window_frames=2, chunk_frames=2, positions=positions
        )
        past, policy = {0: cache.KVCache.empty()}, anchors.policy_for(config)
        for start in (0, 2):
            view = attention.CommitAttention(config, policy, past, shape)
            direct.chunk(x[:, :, start : start + 2], view)
            past = view.committed()
        (kv,) = past.values()
        kv.cached = layout.CachedFrames(kv.cached.anchor, kv.cached.window, seen)
        return direct.chunk(x[:, :, 4:], attention.ChunkAttention(config, policy, past, shape))

    with torch.inference_mode():
        assert torch.equal(outcome("relative", 4), outcome("relative", 400))
        # Counted ones move away from the anchor, so the test can fail.
        assert (outcome("absolute", 4) - outcome("absolute", 400)).abs().max() > 1e-4


@pytest.mark.newest
def test_a_stream_of_five_chunks_at_constant_memory(harness: NodeHarness, case: Case) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    state, sizes = fresh(harness, case), []
    for _ in range(5):
        state, latent = step(harness, case, state, 1, model=model)
        sizes.append(max((kv.nbytes for kv in pool_of(model).sets.values()), default=0))
    assert latent["samples"].shape == (1, case.channels, 3, HEIGHT, WIDTH)
    assert state.content().shape[2] == 15
    assert torch.isfinite(state.content()).all()
    assert sizes[0] == 0
    assert len(set(sizes[1:])) == 1


@pytest.mark.newest
@pytest.mark.parametrize(
    ("compute", "precision"), [(torch.float32, "model"), (torch.bfloat16, "fp8")]
)
def test_the_plan_is_what_is_taken(
    harness: NodeHarness, case: Case, pack: Any, compute: torch.dtype, precision: str
) -> None:
    bare = harness.bare.clone()
    bare.set_model_compute_dtype(compute)
    (model,) = harness.run("AdaStateApply", bare, "adaptive", 3, 3, 1, 3, cache_precision=precision)
    step(harness, case, fresh(harness, case), 4, model=model)
    planned = importlib.import_module(
        f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher"
    ).pool_patcher_of(model)
    # The pool keeps two points of a stream.
    assert planned.starts_with == pytest.approx(pool_of(model).nbytes / 2, rel=0.05)


def test_replay_and_guidance(harness: NodeHarness, case: Case) -> None:
    state, _ = step(harness, case, fresh(harness, case), 3)
    warm, _ = step(harness, case, state, 1)
    (cold_model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
    cold, _ = step(harness, case, state, 1, model=cold_model)
    assert torch.equal(warm.newest_content(), cold.newest_content())
    guided = {"cfg": 3.0, "negative": case.conditioning(9)}
    other, _ = step(harness, case, state, 1, **guided)
    assert not torch.equal(other.newest_content(), warm.newest_content())


def test_a_model_that_is_not_as_described_is_refused(harness: NodeHarness, case: Case) -> None:
    """As after an update of ComfyUI that moves rotary channels: here, a descriptor of another."""
    import dataclasses

    binding = harness.model.get_attachment("adastate")
    rope = binding.traits.rope
    faster = tuple(tuple(2.0 * f for f in row) for row in rope.frequencies)
    for change in (
        {"rope": dataclasses.replace(rope, frequencies=faster)},
        {"rope": dataclasses.replace(rope, pairing=OTHER_PAIRING[rope.pairing])},
    ):
        model = harness.model.clone()
        wrong = dataclasses.replace(binding, traits=dataclasses.replace(binding.traits, **change))
        wrong.layout_checked = set()
        model.set_attachments("adastate", wrong)
        with pytest.raises(ValueError, match=r"knows it: frames placed in time"):
            step(harness, case, fresh(harness, case), 1, model=model)


def test_another_frame_rate_is_refused_where_it_counts(harness: NodeHarness, case: Case) -> None:
    positive = case.conditioning(0)
    positive[0][1]["frame_rate"] = 12.0
    if harness.model.get_attachment("adastate").traits.frame_rate is None:
        step(harness, case, fresh(harness, case), 1, positive=positive)
        return
    with pytest.raises(
        ValueError, match=r"^The prompt says 12 frames per second, and this model streams at 2\d"
    ):
        step(harness, case, fresh(harness, case), 1, positive=positive)


def test_a_start_clip_is_continued(harness: NodeHarness, case: Case) -> None:
    """Also a single frame: what a family joins to the channels must fit shorter blocks."""
    for frames in (1, 5):
        source = torch.Generator().manual_seed(frames)
        clip = {"samples": torch.randn((1, case.channels, frames, HEIGHT, WIDTH), generator=source)}
        latent = {"samples": torch.zeros((1, case.channels, 1, HEIGHT, WIDTH))}
        (state,) = harness.run("AdaStateNewStream", latent, 0, clip)
        after, _ = step(harness, case, state, 2)
        plain, _ = step(harness, case, fresh(harness, case), 2)
        assert not torch.equal(after.content(), plain.content())


def test_anchor_strength_works_with_every_kind_of_mask(harness: NodeHarness, case: Case) -> None:
    outcomes = []
    for strength in (1.0, 3.0, 0.0):
        (model,) = harness.run(
            "AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, anchor_strength=strength
        )
        outcomes.append(step(harness, case, fresh(harness, case), 2, model=model)[0].content())
    assert all(torch.isfinite(content).all() for content in outcomes)
    assert torch.equal(outcomes[0][:, :, :3], outcomes[1][:, :, :3])  # nothing in slot 0 yet
    for other in outcomes[1:]:
        assert not torch.equal(outcomes[0][:, :, 3:], other[:, :, 3:])


def test_an_average_over_the_picture_knows_its_places(harness: NodeHarness, case: Case) -> None:
    import dataclasses

    (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, preset="memrope")
    state, _ = step(harness, case, fresh(harness, case), 6, model=model)
    assert torch.isfinite(state.content()).all()
    binding = model.get_attachment("adastate")
    space = binding.traits.spatial_rope
    for change in (
        {"rows": tuple(tuple(2.0 * f for f in row) for row in space.rows)},
        {"columns": space.rows},
    ):
        other = dataclasses.replace(space, **change)
        traits = dataclasses.replace(binding.traits, spatial_rope=other)
        wrong = dataclasses.replace(binding, traits=traits)
        wrong.layout_checked = set()
        model.set_attachments("adastate", wrong)
        with pytest.raises(ValueError, match=r"frames placed in time and image otherwise"):
            step(harness, case, fresh(harness, case), 1, model=model)
    unknown = dataclasses.replace(binding.traits, spatial_rope=None)
    model.set_attachments("adastate", dataclasses.replace(binding, traits=unknown))
    with pytest.raises(ValueError, match=r"^The anchor dual_ema does not work with this .* model"):
        step(harness, case, fresh(harness, case), 1, model=model)


def test_layers_keep_their_memory_where_guidance_skips_some(
    harness: NodeHarness, case: Case
) -> None:
    """A scale of next to nothing gives the stream without the node, to next to nothing."""
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    guided = {"cfg": 2.0, "negative": case.conditioning(1)}
    streams = []
    for scale in (None, 1e-6):
        (model,) = harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)
        if scale:
            node = SkipLayerGuidanceDiT.execute(model, scale, 0.0, 1.0, "0", "0")
            model = node.args[0]
        streams.append(step(harness, case, fresh(harness, case), 3, model=model, **guided)[0])
    plain, skipping = (state.content() for state in streams)
    torch.testing.assert_close(skipping, plain, atol=1e-3, rtol=1e-3)
