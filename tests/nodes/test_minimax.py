"""MiniMax H3 with sound on ComfyUI's real class: video and sound in one stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, pool_of
from tests.support.sound_streams import (
    HEIGHT,
    WIDTH,
    empty_minimax,
    has_minimax,
    minimax_model,
    minimax_step,
)
from tests.support.tiny_models import MINIMAX_H3, MINIMAX_H3_CURVE

pytestmark = pytest.mark.skipif(not has_minimax(), reason="this ComfyUI has no MiniMax H3")


@pytest.fixture(scope="module", params=[MINIMAX_H3, MINIMAX_H3_CURVE])
def harness(request: pytest.FixtureRequest, node_classes: dict[str, Any], tiny_models: Any) -> Any:
    return NodeHarness(node_classes, request.param)


def fresh(harness: NodeHarness, **options: Any) -> Any:
    return harness.run("AdaStateNewStream", empty_minimax(**options), 0)[0]


def test_a_stream_with_sound_at_constant_memory(harness: NodeHarness) -> None:
    model, state, sizes = minimax_model(harness), fresh(harness), []
    for chunk in range(8):
        state, latent = minimax_step(harness, model, state, 1)
        video, sound = latent["samples"].unbind()
        assert video.shape == (1, 24, 5, HEIGHT, WIDTH)
        assert sound.shape == (1, 32, 2, (29, 28, 28)[chunk % 3])
        assert torch.isfinite(video).all()
        assert torch.isfinite(sound).all()
        sizes.append(max((kv.nbytes for kv in pool_of(model).sets.values()), default=0))
    assert sizes[0] == 0
    assert sizes[1] == sizes[4] == sizes[7]  # of 29, 28 and 28 latents of sound
    assert state.sound().shape == (1, 32, 8 * 85 // 3 + 1, 2)


def test_chunks_together_are_chunks_one_by_one(harness: NodeHarness) -> None:
    model = minimax_model(harness)
    together, latent = minimax_step(harness, model, fresh(harness), 4)
    state, parts = fresh(harness), []
    for _ in range(4):
        state, part = minimax_step(harness, model, state, 1)
        parts.append(part["samples"].unbind())
    video, sound = latent["samples"].unbind()
    assert torch.equal(video, torch.cat([part[0] for part in parts], dim=2))
    assert torch.equal(sound, torch.cat([part[1] for part in parts], dim=3))
    cold, _ = minimax_step(harness, minimax_model(harness), state, 1)
    warm, _ = minimax_step(harness, model, together, 1)
    assert torch.equal(cold.newest_content(), warm.newest_content())
    assert torch.equal(cold.last_chunk.sound, warm.last_chunk.sound)
