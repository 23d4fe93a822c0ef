"""A card never waits for the attention of a chunk: nothing is built elsewhere and copied to it.

The meta device stands for the card: what touches the processor's memory shows in the operations.
"""

from __future__ import annotations

import pytest
import torch

from adastate_core.anchors import policy_for
from adastate_core.anchors.presets import PRESETS
from adastate_core.attention.block_attention import SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.commit_attention import CommitAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCache
from adastate_core.attention.rope import SpatialRope, TemporalRope, spatial_frequencies
from adastate_core.config import StreamConfig
from tests.support.card import CARD, OffTheCard

TOKENS, COLUMNS, HEADS, CHANNELS = 6, 3, 2, 8
STEADY = 12
"""Chunks after which every window is full."""
RELATIVE = [name for name, preset in PRESETS.items() if preset.config.positions == "relative"]


class Stream:
    """A stream on the card, as far as its attention goes.

    Args:
        config: Its options.
        layers: Layers of the model.
        steps: Sampler steps of a chunk.
    """

    def __init__(self, config: StreamConfig, layers: int = 2, steps: int = 3) -> None:
        self._config, self._policy = config, policy_for(config)
        self._layers, self._steps = layers, steps
        spatial = SpatialRope(*spatial_frequencies(1, (0.7,), (0.3,)))
        self._geometry = AttentionGeometry(
            layers, TOKENS, COLUMNS, TemporalRope(((0.9, 0.13),)), spatial_rope=spatial
        )
        self._past = {0: KVCache.empty()}
        self._frame = 0

    def chunk(self) -> None:
        """Denoise a chunk and commit it."""
        given = (self._config, self._policy, self._past, self._geometry)
        view = ChunkAttention(*given, first_frame=self._frame)
        for _ in range(self._steps):
            self._forward(view)
        commit = CommitAttention(*given, first_frame=self._frame)
        self._forward(commit)
        self._past = commit.committed()
        self._frame += self._config.chunk_frames

    def _forward(self, view: ChunkAttention) -> None:
        for layer in range(self._layers):
            q, k, v = (
                torch.empty((1, view.frames * TOKENS, HEADS, CHANNELS), device=CARD)
                for _ in range(3)
            )
            view.attend(SelfAttention(layer, (0,), q, k, v))


@pytest.mark.parametrize("name", RELATIVE)
def test_a_chunk_of_a_full_window_stays_on_the_card(name: str) -> None:
    stream = Stream(PRESETS[name].config)
    with OffTheCard() as before:
        for _ in range(STEADY):
            stream.chunk()
    with OffTheCard() as later:
        stream.chunk()
    assert later.names == []
    assert before.names, "the count counts nothing"


@pytest.mark.parametrize("name", sorted(set(PRESETS) - set(RELATIVE)))
def test_positions_that_count_the_video_cost_the_same_for_any_layers_and_steps(name: str) -> None:
    """Every chunk has other angles: built once, and not in every layer of every step."""
    built = []
    for layers, steps in ((1, 1), (4, 3)):
        stream = Stream(PRESETS[name].config, layers, steps)
        for _ in range(STEADY):
            stream.chunk()
        with OffTheCard() as touched:
            stream.chunk()
        built.append(touched.names)
    assert built[0] == built[1]
    assert built[0]
