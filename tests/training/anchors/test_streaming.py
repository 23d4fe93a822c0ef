"""Streams of training are those of the pack, and anchors are compared under the same noise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from adastate_core.anchors import policy_for
from adastate_core.attention.block_attention import BlockAttention, SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.commit_attention import CommitAttention
from adastate_core.attention.kv_cache import KVCache
from adastate_core.attention.kv_format import PLAIN
from adastate_core.families.wan import WanFamily
from tests.support.tiny_anchors import TINY, tiny_params
from training import text
from training.anchors.memory import ANCHORS, anchor_config
from training.anchors.streaming import SHIFT, Weights, stream
from training.anchors.words import tokens
from training.panorama.prompts import split
from training.rollout import draw_noise, shifted_sigmas
from training.train_dit import part

PROMPTS, SEEDS, CHUNKS, GRID = split(unseen=True)[:2], (3, 4), 4, (4, 6)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return Weights(tiny_params(), TINY)


class Host:
    """ComfyUI's model, with the pack's views of a block in its attention."""

    def __init__(self, comfy: Callable[[str], ModuleType], weights: Weights) -> None:
        self.model = comfy("comfy.ldm.wan.model").WanModel(
            model_type="t2v",
            in_dim=16,
            out_dim=16,
            dim=TINY.dim,
            ffn_dim=TINY.ffn_dim,
            num_heads=1,
            num_layers=TINY.layers,
            text_dim=TINY.text_dim,
            dtype=torch.float32,
            device="cpu",
            operations=comfy("comfy.ops").disable_weight_init,
        )
        self.model.load_state_dict(part(weights.params, "dit.", torch.float32))
        self.geometry = WanFamily().describe(self.model).geometry(*GRID)

    def forward(self, x: Tensor, sigma: float, words: Tensor, view: BlockAttention) -> Tensor:
        calls = 0

        def override(func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **more: Any) -> Tensor:
            nonlocal calls
            layer, is_cross = divmod(calls, 2)
            calls += 1
            if is_cross:
                return func(q, k, v, *args, **more)

            def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
                return func(*(x.flatten(2) for x in (q, k, v)), *args, **more).unflatten(2, (1, -1))

            heads = [x.unflatten(2, (1, -1)) for x in (q, k, v)]
            return view.attend(SelfAttention(layer, (0,), *heads, plain)).flatten(2)

        frames = torch.arange(float(x.shape[2])) + view.origin
        rows, columns = (torch.arange(float(size // 2)) for size in GRID)
        place = torch.stack(torch.meshgrid(frames, rows, columns, indexing="ij"), -1)
        freqs = self.model.rope_embedder(place.reshape(1, -1, 3)).movedim(1, 2)
        options = {"optimized_attention_override": override}
        t = torch.full((len(x),), 1000.0 * sigma)
        out = self.model.forward_orig(x, t, words, freqs=freqs, transformer_options=options)
        assert calls == 2 * TINY.layers
        return out


@torch.inference_mode()
def by_the_pack(host: Host, weights: Weights, anchor: str, steps: int) -> Tensor:
    """Stream by the pack's own attention, cache and anchor policies; all latents of the blocks."""
    config = anchor_config(anchor)
    policy = policy_for(config)
    states = policy.state_frames(config)
    ids, lengths = tokens([prompt.text for prompt in PROMPTS], torch.device("cpu"))
    encoded = text.encode(part(weights.params, "text.", torch.float32), ids, lengths)
    words = torch.nn.functional.pad(encoded, (0, 0, 0, 512 - encoded.shape[1]))
    past, blocks = {0: KVCache.empty(PLAIN)}, []
    for chunk in range(CHUNKS):
        x = draw_noise(list(SEEDS), 0, chunk, 3, GRID)
        if states:
            x = torch.cat([draw_noise(list(SEEDS), 1, chunk, states, GRID), x], 2)
        view = ChunkAttention(config, policy, past, host.geometry, first_frame=3 * chunk)
        for here, there in pairwise(shifted_sigmas(steps, SHIFT)):
            x = x + (there - here) * host.forward(x, here, words, view)
        commit = CommitAttention(config, policy, past, host.geometry, first_frame=3 * chunk)
        host.forward(x, 0.0, words, commit)
        past = commit.committed()
        blocks.append(x)
    return torch.cat(blocks, 2)


@pytest.mark.parametrize("anchor", ANCHORS)
def test_a_stream_is_that_of_the_pack(
    comfy: Callable[[str], ModuleType], weights: Weights, anchor: str
) -> None:
    expected = by_the_pack(Host(comfy, weights), weights, anchor, steps=2)
    content, states = stream(weights, anchor, PROMPTS, SEEDS, CHUNKS, steps=2, grid=GRID)
    chunks = content.unflatten(2, (CHUNKS, 3))
    if states is not None:
        chunks = torch.cat([states.unsqueeze(3), chunks], 3)
    torch.testing.assert_close(chunks.flatten(2, 3), expected, atol=5e-5, rtol=0.0)
    assert (states is not None) == (anchor == "adaptive")


def test_anchors_differ_by_their_past_alone(weights: Weights) -> None:
    firsts, lasts = {}, {}
    for anchor in ANCHORS:
        content, _ = stream(weights, anchor, PROMPTS, SEEDS, 3, steps=1, grid=GRID)
        firsts[anchor], lasts[anchor] = content[:, :, :3], content[:, :, -3:]
    # Without a state and without a past all that differs is a place in time that nothing sees.
    torch.testing.assert_close(firsts["frozen"], firsts["none"], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(firsts["frozen"], firsts["ema"], atol=0.0, rtol=0.0)
    assert (lasts["frozen"] - lasts["none"]).abs().max() > 1e-3
    assert (lasts["adaptive"] - lasts["none"]).abs().max() > 1e-3


@pytest.mark.parametrize("anchor", ["adaptive", "ema"])
def test_a_stream_does_not_depend_on_its_company(weights: Weights, anchor: str) -> None:
    together, _ = stream(weights, anchor, PROMPTS, SEEDS, 2, steps=1, cfg=1.5, grid=GRID)
    alone, _ = stream(weights, anchor, PROMPTS[1:], SEEDS[1:], 2, steps=1, cfg=1.5, grid=GRID)
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0.0)


def test_guidance_of_one_is_none(weights: Weights) -> None:
    plain, _ = stream(weights, "none", PROMPTS, SEEDS, 2, steps=1, grid=GRID)
    almost, _ = stream(weights, "none", PROMPTS, SEEDS, 2, steps=1, cfg=1.0 + 1e-6, grid=GRID)
    guided, _ = stream(weights, "none", PROMPTS, SEEDS, 2, steps=1, cfg=2.0, grid=GRID)
    torch.testing.assert_close(plain, almost, atol=1e-4, rtol=0.0)
    assert (plain - guided).abs().max() > 1e-3


def test_weights_are_read_as_they_were_written(weights: Weights, tmp_path: Path) -> None:
    save_file(weights.params, tmp_path / "average.safetensors", {"ema_rate": "0.8"})
    read = Weights.load(tmp_path)
    assert (read.config, read.ema_rate) == (TINY, 0.8)
    ours, _ = stream(weights, "none", PROMPTS, SEEDS, 1, steps=1, grid=GRID)
    theirs, _ = stream(read, "none", PROMPTS, SEEDS, 1, steps=1, grid=GRID)
    assert torch.equal(ours, theirs)
