"""What a host is handed for a block: both attentions answer all of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from adastate_core.anchors import policy_for
from adastate_core.attention.block_attention import BlockAttention, SelfAttention
from adastate_core.attention.chunk_attention import ChunkAttention
from adastate_core.attention.commit_attention import CommitAttention
from adastate_core.attention.kv_cache import KVCache
from adastate_core.config import StreamConfig
from tests.support.reference_dit import plain_attention
from tests.support.reference_host import Harness


@pytest.mark.parametrize("kind", [ChunkAttention, CommitAttention])
def test_both_attentions_answer_what_a_host_asks(kind: type[ChunkAttention]) -> None:
    geometry, config = Harness().geometry, StreamConfig()
    past = {i: KVCache.empty() for i in (0, 1)}
    view: BlockAttention = kind(config, policy_for(config), past, geometry, first_frame=6)
    asked = [name for name in vars(BlockAttention) if not name.startswith("_")]
    assert len(asked) == 8
    assert all(hasattr(view, name) for name in asked)
    assert (view.frames, view.state_frames, view.first_frame) == (4, 1, 6)
    assert len(view.places["video"]) == view.frames
    assert view.conditionings == (0, 1)
    assert view.geometry is geometry
    # The content is numbered so that it needs no rotation.
    assert view.origin + view.state_frames == 4


def test_a_call_is_not_to_be_changed_and_prints_no_tensor() -> None:
    x = torch.zeros((1, 2, 1, 4))
    call = SelfAttention(0, (0,), x, x, x, plain_attention)
    with pytest.raises(FrozenInstanceError):
        call.layer = 1  # type: ignore[misc]
    assert "tensor(" not in repr(call)
