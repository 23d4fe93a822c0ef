"""Published methods with sound: every preset against the method written out, on MiniMax H3."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.h3_line import Chunk, H3Line, Rows, cut
from tests.support.harness import NodeHarness, pool_of
from tests.support.sound_streams import (
    HEIGHT,
    WIDTH,
    empty_minimax,
    has_minimax,
    minimax_step,
    minimax_text,
)
from tests.support.tiny_models import MINIMAX_H3, MINIMAX_H3_CURVE

pytestmark = pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")

SIGMAS = (1.0, 12 * 0.75 / 9.25, 12 * 0.5 / 6.5, 0.8, 0.0)  # four steps of equal size, shifted
SEED = 3
CHUNKS = {"raven": 6, "taomate": 5}  # the last of them no longer sees the second


@dataclass(frozen=True)
class Method:
    """A method in words: how long its chunks are, and what they see.

    Args:
        frames: Latent frames of a chunk.
        text: Whether text sees `all`, `text` alone, or is computed once, as `prefill`.
        noise: Share of noise in what is kept of a chunk.
        sound: Whether the first chunk is kept with its sound.
        fresh: Whether a step begins anew, from what is clean and fresh noise.
    """

    frames: int
    text: str
    noise: float
    sound: bool = True
    fresh: bool = False


METHODS = {
    "raven": Method(5, "prefill", 0.001),
    "taomate": Method(10, "all", 0.0),
}


@pytest.fixture(scope="module", params=[MINIMAX_H3, MINIMAX_H3_CURVE])
def harness(request: pytest.FixtureRequest, node_classes: dict[str, Any], tiny_models: Any) -> Any:
    return NodeHarness(node_classes, request.param)


def written_out(
    harness: NodeHarness, core: Any, method: Method, chunks: int
) -> list[tuple[Tensor, Tensor]]:
    """Make a clip as a method does: a chunk sees the first one and the two before it."""
    noises = importlib.import_module(f"{core.__name__}.rollout.noise")
    block_of = importlib.import_module(f"{core.__name__}.rollout.latent_block").LatentBlock
    parts, made = cut(chunks, method.frames), []
    with torch.inference_mode():
        dit = harness.bare.get_model_object("diffusion_model")
        line = H3Line(dit, minimax_text(0)[0][0], parts, (HEIGHT, WIDTH))
        kept: list[Rows] = []

        def seen(time: float) -> list[Rows]:
            context = [*kept[:1], *kept[max(1, len(kept) - 2) :]]
            if method.text == "all":
                return context
            return [line.prefill(1 - method.noise if method.text == "prefill" else time), *context]

        def velocity(part: Chunk, video: Tensor, sound: Tensor, times: tuple[float, float]) -> Any:
            past, own = seen(times[0]), method.text == "all"
            return line.velocity(part, video, sound, times, past, with_text=own)

        for k, part in enumerate(parts):
            ticks, share = part.ticks.stop - part.ticks.start, method.noise
            shape = (1, 24, method.frames, HEIGHT, WIDTH)
            source = noises.BlockNoise(SEED, k, shape, 0, (1, 32, ticks, 2))
            start = source.initial()
            video, sound = start.video, start.sound.transpose(2, 3)
            for now, then in pairwise(SIGMAS):
                heard = [of_sound(sigma) for sigma in (now, then)]
                v, a, _ = velocity(part, video, sound, (1 - now, 1 - heard[0]))
                if method.fresh:
                    video, sound = video + now * v, sound + heard[0] * a
                    if then:
                        more = source.renoise(video)
                        video = (1 - then) * video + then * more.video
                        noise = more.sound.transpose(2, 3)
                        sound = (1 - heard[1]) * sound + heard[1] * noise
                else:
                    video = video + (now - then) * v
                    sound = sound + (heard[0] - heard[1]) * a
            made.append((video, sound))
            block = block_of(video, sound.transpose(2, 3))
            extra = noises.CommitNoise.drawn(share, SEED, k, block, 0).noise
            video = (1 - share) * video + share * extra.video
            sound = (1 - share) * sound + share * extra.sound.transpose(2, 3)
            rows = velocity(part, video, sound, (1 - share, 1 - share))[2]
            if k == 0 and not method.sound:
                rows = [(key[:, :, 2 * ticks :], value[:, :, 2 * ticks :]) for key, value in rows]
            kept.append(rows)
    return made


def of_sound(sigma: float) -> float:
    """Return the noise level of the sound where the video has this one: a shift of 3, not of 12."""
    plain = sigma / (12 - 11 * sigma)
    return 3 * plain / (1 + 2 * plain)


def streamed(
    harness: NodeHarness, model: Any, chunks: int, **changes: Any
) -> list[tuple[Tensor, Tensor]]:
    state, _ = step(harness, model, fresh(harness), chunks, **changes)
    return [(chunk.content, chunk.sound.transpose(2, 3)) for chunk in state.chunks]


def fresh(harness: NodeHarness) -> Any:
    return harness.run("AdaStateNewStream", empty_minimax(), 0)[0]


def step(harness: NodeHarness, model: Any, state: Any, chunks: int, **changes: Any) -> Any:
    schedule = torch.tensor(SIGMAS)
    return minimax_step(harness, model, state, chunks, seed=SEED, sigmas=schedule, **changes)


def with_preset(harness: NodeHarness, name: str, **options: Any) -> Any:
    arguments = {"preset": name, **options}
    return harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, **arguments)[0]


def furthest(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> float:
    pairs = [
        (x, y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    ]
    return max(float((x - y).abs().max()) for x, y in pairs)


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_equals_the_method_written_out(harness: NodeHarness, core: Any, name: str) -> None:
    expected = written_out(harness, core, METHODS[name], CHUNKS[name])
    made = streamed(harness, with_preset(harness, name), CHUNKS[name])
    assert furthest(made, expected) < 5e-6


def test_raven_steps_as_published(harness: NodeHarness, core: Any) -> None:
    """With lcm: fresh noise at every step, and the sound at noise levels of its own."""
    import comfy.samplers

    sampling = harness.bare.get_model_object("model_sampling")
    simple = comfy.samplers.calculate_sigmas(sampling, "simple", 4)
    torch.testing.assert_close(simple, torch.tensor(SIGMAS), atol=2e-4, rtol=0)
    lcm = comfy.samplers.sampler_object("lcm")
    made = streamed(harness, with_preset(harness, "raven"), 4, sampler=lcm)
    published = replace(METHODS["raven"], fresh=True)
    assert furthest(made, written_out(harness, core, published, 4)) < 5e-6
    assert furthest(made, written_out(harness, core, METHODS["raven"], 4)) > 1e-2


def test_text_that_sees_text_alone_equals_it_written_out(
    harness: NodeHarness, core: Any, pack: Any
) -> None:
    presets = importlib.import_module(f"{core.__name__}.anchors.presets")
    binding = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.binding")
    config = replace(presets.preset_config("raven"), text_sees="text", commit_sigma=0.0)
    made = streamed(harness, binding.bind(harness.bare, config), 4)
    assert furthest(made, written_out(harness, core, Method(5, "text", 0.0), 4)) < 5e-6


def test_the_comparison_tells_the_variants_apart(harness: NodeHarness, core: Any) -> None:
    """The negative control: other text, clean commits, an anchor without sound."""
    right = written_out(harness, core, METHODS["raven"], 4)
    for wrong in (
        Method(5, "all", 0.001),
        Method(5, "text", 0.001),
        Method(5, "prefill", 0.0),
        Method(5, "prefill", 0.001, sound=False),
    ):
        assert furthest(written_out(harness, core, wrong, 4), right) > 2e-5


def test_noise_and_text_are_the_same_whenever_they_are_made_again(harness: NodeHarness) -> None:
    """A stream in parts, on a model that has forgotten it, under other prompts on the way."""
    model, prompts = with_preset(harness, "raven"), [minimax_text(0), minimax_text(1, 4)]
    state, states = fresh(harness), []
    for chunk in range(5):
        state, _ = step(harness, model, state, 1, positive=prompts[chunk // 2 % 2])
        states.append(state)
    cold = with_preset(harness, "raven", cache_place="system memory")
    for chunk in (4, 2):  # the newest chunk again, then one under the other prompt
        again, _ = step(harness, cold, states[chunk - 1], 1, positive=prompts[chunk // 2 % 2])
        assert torch.equal(again.newest_content(), states[chunk].newest_content())
        assert torch.equal(again.last_chunk.sound, states[chunk].last_chunk.sound)
    together, _ = step(harness, with_preset(harness, "raven"), fresh(harness), 2)
    assert torch.equal(together.content(), states[1].content())


def test_text_is_computed_once_for_a_prompt(harness: NodeHarness) -> None:
    model, forwards = with_preset(harness, "raven"), []

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        forwards.append(args[0][0].shape[2])
        return executor(*args, **kwargs)

    model.add_wrapper("diffusion_model", count)
    state, _ = step(harness, model, fresh(harness), 1)
    assert forwards.count(1) == 1
    state, _ = step(harness, model, state, 1)
    assert forwards.count(1) == 1
    step(harness, model, state, 1, positive=minimax_text(1))
    assert forwards.count(1) == 2
    assert forwards.count(5) == 3 * (len(SIGMAS) - 1) + 2


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_plan_counts_prefilled_text(harness: NodeHarness, pack: Any, cfg: float) -> None:
    module = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher")
    (model,) = harness.run("AdaStateApply", harness.bare, "none", 3, 3, 1, 3, preset="raven")
    prompts = {"positive": minimax_text(0, words=9), "negative": minimax_text(1, words=4)}
    # In the third chunk slot 0 and half of the window are full; of sound it has most by then.
    step(harness, model, fresh(harness), 6, cfg=cfg, **prompts)
    kept = list(pool_of(model).caches())
    texts = [kv for kv in kept if not kv.cached.frames]
    assert len(texts) == (2 if cfg > 1 else 1)
    taken, past = sum(kv.nbytes for kv in texts), sum(kv.nbytes for kv in kept)
    layers, width = 2, texts[0].keys_of["0-self-text"].decode().flatten(2).shape[2]
    assert taken == 2 * layers * width * (13 if cfg > 1 else 9) * 4
    patcher = module.pool_patcher_of(model)
    assert patcher.starts_with == pytest.approx(taken + (past - taken) / 2, rel=0.02)
    assert patcher.pool.expected_bytes >= past
