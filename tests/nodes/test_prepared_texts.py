"""Texts that a model has prepared serve all sessions under the same prompt, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.sound_streams import (
    LTX2_WIDTHS,
    empty_ltx2,
    empty_minimax,
    has_minimax,
    ltx2_model,
    ltx2_step,
    ltx2_text,
    minimax_model,
    minimax_step,
    minimax_text,
)
from tests.support.tiny_models import LTX2, LTX23, MINIMAX_H3

FILES = [LTX2, LTX23]
if has_minimax():
    FILES.append(MINIMAX_H3)


class Streamed:
    """The streams of one file."""

    def __init__(self, node_classes: dict[str, Any], file: str) -> None:
        self.harness, self.is_ltx = NodeHarness(node_classes, file), file != MINIMAX_H3
        self.width = LTX2_WIDTHS.get(file, 0)

    def text(self, seed: int) -> list[Any]:
        return ltx2_text(seed, self.width) if self.is_ltx else minimax_text(seed)

    def model(self, bare: Any = None) -> Any:
        make = ltx2_model if self.is_ltx else minimax_model
        if bare is None:
            return make(self.harness)
        sizes = {"chunk_frames": 3, "window_frames": 3} if self.is_ltx else {}
        sizes = sizes or {"chunk_frames": 5, "window_frames": 5}
        return self.harness.run("AdaStateApply", bare, "adaptive", **sizes)[0]

    def fresh(self) -> Any:
        empty = empty_ltx2() if self.is_ltx else empty_minimax()
        return self.harness.run("AdaStateNewStream", empty, 0)[0]

    def step(self, model: Any, state: Any, chunks: int = 1, seed: int = 0, **more: Any) -> Any:
        make = ltx2_step if self.is_ltx else minimax_step
        return make(self.harness, model, state, chunks, positive=self.text(seed), **more)[0]

    @contextmanager
    def prepared(self) -> Iterator[list[int]]:
        """Count the texts that the model prepares."""
        dit = self.harness.bare.get_model_object("diffusion_model")
        part = dit.video_embeddings_connector if self.is_ltx else dit.token_refiner
        seen: list[int] = []
        handle = part.register_forward_hook(lambda *_: seen.append(1))
        yield seen
        handle.remove()


@pytest.fixture(scope="module", params=FILES)
def streamed(request: pytest.FixtureRequest, node_classes: dict[str, Any], tiny_models: Any) -> Any:
    return Streamed(node_classes, request.param)


def latents(state: Any) -> list[torch.Tensor]:
    return [x for chunk in state.chunks for x in (chunk.content, chunk.sound)]


def same(a: Any, b: Any) -> bool:
    pairs = zip(latents(a), latents(b), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_text_is_prepared_once_and_the_stream_is_the_same(streamed: Streamed) -> None:
    with streamed.prepared() as seen:
        model, state = streamed.model(), streamed.fresh()
        for _ in range(3):
            state = streamed.step(model, state)
        assert len(seen) == 1
        expected = streamed.fresh()
        for _ in range(3):  # a MODEL of its own each, which knows no text yet
            expected = streamed.step(streamed.model(), expected)
        assert len(seen) > 3
    assert same(state, expected)


def test_each_prompt_has_its_own(streamed: Streamed) -> None:
    with streamed.prepared() as seen:
        model, state = streamed.model(), streamed.fresh()
        for seed in (0, 1, 0):
            state = streamed.step(model, state, seed=seed, negative=streamed.text(2), cfg=3.0)
        assert len(seen) == 3
        expected = streamed.step(streamed.model(), streamed.fresh(), 1, 0)
        assert not torch.equal(latents(expected)[0], latents(state)[2])
    other = streamed.fresh()
    for seed in (0, 1, 0):
        more = {"seed": seed, "negative": streamed.text(2), "cfg": 3.0}
        other = streamed.step(streamed.model(), other, **more)
    assert same(state, other)


def test_other_weights_prepare_it_anew(streamed: Streamed) -> None:
    """A LoRA behind Apply AdaState changes what a text becomes; without it, it is as before."""
    model = streamed.model()
    plain = streamed.step(model, streamed.fresh())
    part = "video_embeddings_connector" if streamed.is_ltx else "token_refiner"
    dit = streamed.harness.bare.get_model_object("diffusion_model")
    named = {f"diffusion_model.{n}": w for n, w in dit.named_parameters() if n.startswith(part)}
    patched = model.clone()
    patched.add_patches({name: (torch.randn_like(w),) for name, w in named.items()})
    with streamed.prepared() as seen:
        changed = streamed.step(patched, streamed.fresh())
        assert len(seen) == 1
        again = streamed.step(model, streamed.fresh())
        assert len(seen) == 1
    assert same(again, plain)
    assert not same(changed, plain)


def test_a_text_that_another_node_changes_is_prepared_for_each_session(
    streamed: Streamed,
) -> None:
    from comfy.patcher_extension import WrappersMP

    def louder(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        guider.conds = {
            role: [{**entry, "cross_attn": 2 * entry["cross_attn"]} for entry in entries]
            for role, entries in guider.conds.items()
        }
        return executor(*args, **kwargs)

    model = streamed.model()
    plain = streamed.step(model, streamed.step(model, streamed.fresh()))
    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "louder", louder)
    with streamed.prepared() as seen:
        state = streamed.step(model, streamed.step(model, streamed.fresh()))
        assert len(seen) == 2
    assert not same(state, plain)
